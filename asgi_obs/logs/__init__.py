"""Logs: JSON lines in one schema, each with the correlation ID of the request it belongs to.

`setup_logging` sends all records to standard output; `StructuredLogFormatter` and `TextLogFormatter` write them;
`LogContext` and `bind` add fields; `RequestLoggingMiddleware` writes one line per exchange.
"""

from asgi_obs.logs.context import LogContext, bind
from asgi_obs.logs.formatter import StructuredLogFormatter
from asgi_obs.logs.levels import TRACE, TraceLogger, get_logger
from asgi_obs.logs.request import RequestLoggingMiddleware
from asgi_obs.logs.setup import setup_logging
from asgi_obs.logs.text import TextLogFormatter

__all__ = [
    "TRACE",
    "LogContext",
    "RequestLoggingMiddleware",
    "StructuredLogFormatter",
    "TextLogFormatter",
    "TraceLogger",
    "bind",
    "get_logger",
    "setup_logging",
]
