"""Bridges to other libraries, one module each, imported only by whoever uses that library.

`httpx` (and httpx2), `aiohttp` and `mcp` carry context to other services; `structlog` and `loguru` are front ends of
`logging`. `sqlalchemy` observes engines, `event_bus` any bus.
"""
