"""Bridges to other libraries, one module each, imported only by whoever uses that library.

`structlog` and `loguru` as front ends of `logging`.
"""
