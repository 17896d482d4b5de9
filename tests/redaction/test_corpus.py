"""No secret in any position in any output, and no innocent text changed."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from asgi_obs.logs.formatter import StructuredLogFormatter
from asgi_obs.logs.text import TextLogFormatter
from asgi_obs.redaction import redactor_for
from asgi_obs.settings import Settings

from .corpus import POSITIONS, SECRETS, Position, forms
from .innocents import INNOCENT_DATA, INNOCENT_TEXTS


class Lines(logging.Handler):
    """Keeps the lines of both formatters."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._formatters = (StructuredLogFormatter(settings=settings), TextLogFormatter(settings=settings))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += [formatter.format(record) for formatter in self._formatters]


@pytest.fixture
def settings() -> Settings:
    return Settings(
        service_name="shop",
        version="1",
        environment="testing",
        log_level="DEBUG",
        sensitive_fields=("password", "token", "secret"),
    )


def test_the_corpus_is_large() -> None:
    assert len(set(SECRETS)) >= 200
    assert len(POSITIONS) >= 20
    assert len(set(INNOCENT_TEXTS)) >= 150


@pytest.mark.parametrize(("name", "position", "secrets"), POSITIONS, ids=[name for name, *_ in POSITIONS])
def test_no_secret_nor_a_word_of_it_appears_in_any_output(
    name: str, position: Position, secrets: tuple[str, ...], settings: Settings
) -> None:
    log = logging.Logger(f"corpus.{name}")  # noqa: LOG001 - in no tree: nobody else is to write its records
    handler = Lines(settings)
    log.addHandler(handler)
    position(log, "*")
    around = "".join(handler.lines)
    handler.lines.clear()
    leaks: list[Any] = []
    for secret in secrets:
        position(log, secret)
        parts = {*forms(secret), *re.findall("[A-Za-z]{5,}", secret)}
        leaks += [(secret, line) for line in handler.lines if any(p in line and p not in around for p in parts)]
        assert len(handler.lines) == 2
        handler.lines.clear()

    assert leaks == []


@pytest.mark.parametrize("text", INNOCENT_TEXTS)
def test_an_innocent_text_stays_as_it_is(text: str, settings: Settings) -> None:
    assert redactor_for(settings).redact_text(text) is text


@pytest.mark.parametrize("data", INNOCENT_DATA)
def test_innocent_data_stays_as_it_is(data: Any, settings: Settings) -> None:
    assert redactor_for(settings).redact(data) == data
