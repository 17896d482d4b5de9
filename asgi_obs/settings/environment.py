"""Where settings come from: the environment first, then a `.env` file of the working directory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Final, TypeVar

from starlette.config import Config

from asgi_obs.errors import SettingsError

__all__ = ["variable"]

_T = TypeVar("_T")

_MAY_BE_EMPTY: Final = frozenset({"SENSITIVE_FIELDS"})
"""Variables that mean something when they are empty; others have their default then, for compose files set them so."""

_COMMENT: Final = re.compile(r"(?:^|\s)#")


def variable(name: str, default: str, parse: Callable[[str], _T], allowed: str = "", *, secret: bool = False) -> _T:
    """A dataclass field that is read from an environment variable unless it is given; a secret is not printed."""

    def read() -> _T:
        text: str = Config(environ={**_env_file(), **os.environ})(name, default=default).strip()
        try:
            return parse(text or (default if name not in _MAY_BE_EMPTY else ""))
        except ValueError:
            raise SettingsError(name, text, allowed) from None

    declared: _T = field(default_factory=read, metadata={"variable": name}, repr=not secret)
    return declared


def _env_file() -> dict[str, str]:
    """What a `.env` file in the working directory says. Starlette's own reader takes comments for values."""
    path = Path(".env")
    if not path.is_file():
        return {}
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SettingsError(str(path), str(error), "a text in UTF-8") from None
    pairs = (line.removeprefix("export ").partition("=") for line in map(str.strip, lines) if not line.startswith("#"))
    return {name.strip(): _unquoted(value.strip()) for name, equals, value in pairs if equals}


def _unquoted(value: str) -> str:
    """A value without its quotes, or without the comment behind it."""
    if value[:1] in {"'", '"'} and value.find(value[0], 1) > 0:
        return value[1 : value.index(value[0], 1)]
    return _COMMENT.split(value, maxsplit=1)[0]
