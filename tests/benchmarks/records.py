"""What one JSON record costs: the same content through `logging`, rendered by us and by the peers.

Every record has a message with an argument, four fields of its own, three of the context, and what every line says of
the service. All go into the same kind of handler, which renders and writes nowhere. Ours redacts; the peers do not.
"""

from __future__ import annotations

import gc
import io
import logging
import os
import socket
import statistics
from collections.abc import Callable
from itertools import count
from time import perf_counter
from typing import Any

import orjson
import structlog
from pythonjsonlogger.json import JsonFormatter
from pythonjsonlogger.orjson import OrjsonFormatter

from asgi_obs import LogContext, Settings, StructuredLogFormatter

SERVICE = {"service": "shop", "environment": "production", "version": "1.2.3"}
PLACE = {**SERVICE, "hostname": socket.gethostname()}
CONTEXT = {"correlation_id": "7d4447a4-1d4a-4e9f-9f2c-5a3f0f0f6f1e", "user_id": "u-1", "workspace_id": "w-1"}
PEER_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s %(process)d"

Log = Callable[[int], object]


class _Renders(logging.Handler):
    def handle(self, record: logging.LogRecord) -> bool:
        self.format(record)
        return True


def _logger(name: str, formatter: logging.Formatter) -> logging.Logger:
    logger = logging.getLogger(f"bench.{name}")
    handler = _Renders()
    handler.setFormatter(formatter)
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO)
    return logger


def _fields(number: int) -> dict[str, Any]:
    return {"order_id": number, "customer": f"c-{number}", "amount": 12.5, "currency": "EUR"}


def _ours() -> Log:
    settings = Settings(service_name="shop", environment="production", version="1.2.3")
    logger = _logger("ours", StructuredLogFormatter(settings=settings))
    return lambda number: logger.info("order %s stored", number, extra=_fields(number))


def _python_json_logger(formatter: type[JsonFormatter | OrjsonFormatter]) -> Log:
    logger = _logger(formatter.__name__, formatter(PEER_FORMAT, static_fields=PLACE))
    return lambda number: logger.info("order %s stored", number, extra={**_fields(number), **CONTEXT})


def _place(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    return {**event, **PLACE, "pid": os.getpid()}


def _orjson(event: dict[str, Any], **options: Any) -> str:
    return orjson.dumps(event, **options).decode()


def _structlog(wrapped: Any, renderer: structlog.processors.JSONRenderer, *processors: Any) -> Any:
    return structlog.wrap_logger(
        wrapped,
        processors=[
            structlog.contextvars.merge_contextvars,
            *processors,
            _place,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    ).bind()


def _structlog_into_logging() -> Log:
    logger = _structlog(
        _logger("structlog", logging.Formatter("%(message)s")),
        structlog.processors.JSONRenderer(serializer=_orjson),
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
    )
    return lambda number: logger.info("order %s stored", number, **_fields(number))


def _structlog_alone() -> Log:
    logger = _structlog(
        structlog.BytesLogger(io.BytesIO()),
        structlog.processors.JSONRenderer(serializer=orjson.dumps),
        structlog.processors.add_log_level,
    )
    return lambda number: logger.info("order %s stored", number, **_fields(number))


def _bare() -> Log:
    logger = _logger("bare", logging.Formatter("%(message)s"))
    return lambda number: logger.info("order %s stored", number)


OURS, STRUCTLOG, PYTHON_JSON_LOGGER = "asgi_obs", "structlog with orjson, into logging", "python-json-logger"

CONTENDERS: dict[str, Callable[[], Log]] = {
    OURS: _ours,
    STRUCTLOG: _structlog_into_logging,
    PYTHON_JSON_LOGGER: lambda: _python_json_logger(JsonFormatter),
    "python-json-logger with orjson": lambda: _python_json_logger(OrjsonFormatter),
    "structlog with orjson, alone": _structlog_alone,
    "logging, the message alone": _bare,
}

BARS = ((STRUCTLOG, 1.0), (PYTHON_JSON_LOGGER, 0.65))
"""A record of ours may cost this many times one of a peer."""


def measure(*, records: int, rounds: int) -> dict[str, float]:
    """Microseconds per record, the median over interleaved rounds.

    Args:
        records: Records in a row.
        rounds: How often each contender has its turn.
    """
    contenders = {name: make() for name, make in CONTENDERS.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    numbers = count(100_000)
    structlog.contextvars.bind_contextvars(**CONTEXT)
    with LogContext(**CONTEXT):
        gc.collect()
        for _ in range(rounds):
            for name, log in contenders.items():
                started = perf_counter()
                for _ in range(records):
                    log(next(numbers))
                times[name].append((perf_counter() - started) / records * 1e6)
    return {name: statistics.median(spent) for name, spent in times.items()}
