"""Loggers of a test's own, and a root logger that is put back."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import pytest

from asgi_obs.logs import StructuredLogFormatter, setup_logging
from asgi_obs.logs.handlers import LineHandler
from asgi_obs.logs.servers import ACCESS_LOGGERS, SERVER_LOGGERS
from asgi_obs.settings import Settings

CHANGED = (None, *SERVER_LOGGERS, *ACCESS_LOGGERS, "py.warnings", "audit", "asgi_obs", "asgi_obs.request")
"""What `setup_logging` touches."""


class Sink(logging.StreamHandler):  # type: ignore[type-arg]
    """Keeps what its formatter makes of the records, and the records."""

    def __init__(self) -> None:
        super().__init__(StringIO())
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        super().emit(record)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def line(self) -> dict[str, Any]:
        (line,) = self.lines
        return line


@pytest.fixture
def settings() -> Settings:
    return Settings(
        service_name="shop",
        version="1.2.3",
        environment="testing",
        log_level="INFO",
        log_format="json",
        sensitive_fields=("password", "token", "secret"),
    )


@pytest.fixture
def sink(settings: Settings) -> Sink:
    sink = Sink()
    sink.setFormatter(StructuredLogFormatter(settings=settings))
    return sink


def _freeze(logger: logging.Logger) -> Callable[[], None]:
    level, handlers, filters = logger.level, logger.handlers[:], logger.filters[:]
    propagate, disabled = logger.propagate, logger.disabled

    def restore() -> None:
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers[:], logger.filters[:] = handlers, filters
        logger.propagate, logger.disabled = propagate, disabled
        logger.setLevel(level)

    return restore


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """The root logger without the settings of the environment; it and all others that are touched are put back."""
    for variable in Settings.variables().values():
        monkeypatch.delenv(variable, raising=False)
    neutral = Settings()
    loggers = [logging.getLogger(name) for name in CHANGED]
    restores = [_freeze(logger) for logger in loggers]
    signals = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)}
    yield loggers[0]
    if any(isinstance(handler, LineHandler) for handler in loggers[0].handlers):
        setup_logging(settings=neutral)  # which closes files and takes back levels
    logging.captureWarnings(capture=False)
    for number, handler in signals.items():
        signal.signal(number, handler)
    for restore in restores:
        restore()


@pytest.fixture
def logger(request: pytest.FixtureRequest, sink: Sink) -> Iterator[logging.Logger]:
    """A logger of the test's own that writes to `sink` at every level."""
    logger = logging.getLogger(f"test.{request.node.name}")
    restore = _freeze(logger)
    logger.addHandler(sink)
    logger.setLevel(1)
    logger.propagate = False
    yield logger
    restore()
