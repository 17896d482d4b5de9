"""Logs: lines in one schema, each with the correlation ID of the request it belongs to.

`setup_logging` sends all records where the settings say, by `StdoutHandler` or `FileHandler`; `StructuredLogFormatter`
and `TextLogFormatter` write them; `LogContext` and `bind` add fields. `RequestLoggingMiddleware` writes one line per
exchange, with `Sampling` fewer of them, with `Capture` more in each. `audit_log` writes what must not be missing.
`sign_debug_header` has one request logged at DEBUG.
"""

from asgi_obs.logs.audit import audit_log
from asgi_obs.logs.capture import Capture
from asgi_obs.logs.context import LogContext, bind
from asgi_obs.logs.debug_header import sign_debug_header
from asgi_obs.logs.files import FileHandler
from asgi_obs.logs.formatter import StructuredLogFormatter
from asgi_obs.logs.levels import TRACE, TraceLogger, get_logger
from asgi_obs.logs.request import RequestLoggingMiddleware
from asgi_obs.logs.sampling import Sampling
from asgi_obs.logs.setup import setup_logging
from asgi_obs.logs.stdout import StdoutHandler
from asgi_obs.logs.text import TextLogFormatter

__all__ = [
    "TRACE",
    "Capture",
    "FileHandler",
    "LogContext",
    "RequestLoggingMiddleware",
    "Sampling",
    "StdoutHandler",
    "StructuredLogFormatter",
    "TextLogFormatter",
    "TraceLogger",
    "audit_log",
    "bind",
    "get_logger",
    "setup_logging",
    "sign_debug_header",
]
