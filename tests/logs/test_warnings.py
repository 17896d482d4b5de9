"""Warnings of Python on their way through `setup_logging`."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest

from asgi_obs.logs.warnings import capture_warnings

PROGRAM = """
import warnings
from asgi_obs import setup_logging
setup_logging("shop", "INFO")
setup_logging("shop", "INFO")
for _ in range(2):
    warnings.warn("old", DeprecationWarning, stacklevel=1)
print("survived")
"""


class Keeping(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "-c", PROGRAM], capture_output=True, text=True, check=False)


@pytest.fixture
def heard() -> Iterator[list[logging.LogRecord]]:
    """The records of warnings; every warning is shown."""
    logger = logging.getLogger("py.warnings")
    handler = Keeping()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        for _ in range(2):
            capture_warnings()
        logger.addHandler(handler)
        yield handler.records
        logger.handlers.clear()
        logger.filters.clear()
        logging.captureWarnings(capture=False)


def test_a_warning_is_one_record_with_its_place_and_without_the_code(heard: list[logging.LogRecord]) -> None:
    warnings.warn("old", UserWarning, stacklevel=1)
    (record,) = heard
    assert (record.name, record.levelno) == ("py.warnings", logging.WARNING)
    assert re.fullmatch(r".*test_warnings\.py:\d+: UserWarning: old", record.getMessage())


@pytest.mark.parametrize("text", ["two\nlines", "indented:\n  second line", "100 % of %s"])
def test_the_text_of_a_warning_is_kept_whole(heard: list[logging.LogRecord], text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=1)
    warnings.warn_explicit(text, UserWarning, "no such file.py", 7)
    first, second = heard
    assert first.getMessage().endswith(f": UserWarning: {text}")
    assert second.getMessage() == f"no such file.py:7: UserWarning: {text}"


def test_a_record_that_somebody_else_logs_there_is_left_as_it_is(heard: list[logging.LogRecord]) -> None:
    logging.getLogger("py.warnings").warning("%s by hand", "logged")
    assert [record.getMessage() for record in heard] == ["logged by hand"]


def test_a_warning_is_logged_where_python_would_print_it_and_as_often() -> None:
    done = run("-W", "default:old")
    first, second = done.stdout.splitlines()
    assert "DeprecationWarning: old" in json.loads(first)["message"]
    assert (second, done.stderr, done.returncode) == ("survived", "", 0)


def test_a_warning_that_is_ignored_is_not_logged() -> None:
    done = run("-W", "ignore:old")
    assert (done.stdout, done.stderr, done.returncode) == ("survived\n", "", 0)


def test_a_warning_that_is_an_error_is_raised() -> None:
    done = run("-W", "error:old")
    assert done.stdout == ""
    assert (done.stderr.splitlines()[-1], done.returncode) == ("DeprecationWarning: old", 1)
