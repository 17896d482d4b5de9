"""The conventions of before, for whoever asks: `http.method`, `http.url`, `http.status_code`.

`OTEL_SEMCONV_STABILITY_OPT_IN` says which are wanted; the old ones are those of opentelemetry-instrumentation-asgi,
which collects them, as slowly as it does. See https://opentelemetry.io/docs/specs/semconv/non-normative/http-migration/.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from asgi_obs.errors import MissingExtraError
from asgi_obs.exchange import Exchange
from asgi_obs.redaction import Redactor
from asgi_obs.tracing.conventions import Conventions, Stable, encodable, text_of, utf8_headers
from asgi_obs.types import Scope

__all__ = ["Both", "Legacy", "conventions_of"]


def conventions_of(opt_in: Collection[str], redactor: Redactor, known_methods: Collection[str]) -> Conventions:
    """The conventions that are wanted.

    Args:
        opt_in: The words of `OTEL_SEMCONV_STABILITY_OPT_IN`: `http/dup` asks for both, `default` for the old ones;
            otherwise it is the stable ones.
        redactor: Redacts what they tell.
        known_methods: The methods that the stable ones tell by their names.

    Raises:
        MissingExtraError: The old ones are wanted without opentelemetry-instrumentation-asgi.
    """
    if "default" in opt_in and not {"http", "http/dup"}.intersection(opt_in):
        return Legacy(redactor)
    stable = Stable(redactor, known_methods)
    return Both(stable, Legacy(redactor)) if "http/dup" in opt_in else stable


class Legacy:
    """The old conventions.

    Args:
        redactor: Redacts the URL.

    Raises:
        MissingExtraError: opentelemetry-instrumentation-asgi is not installed.
    """

    status_names: tuple[str, ...] = ("http.status_code",)

    def __init__(self, redactor: Redactor) -> None:
        try:
            from opentelemetry.instrumentation.asgi import collect_request_attributes
        except ImportError:
            raise MissingExtraError("OTEL_SEMCONV_STABILITY_OPT_IN with the old conventions", "otel") from None
        self._collect: Callable[[Scope], dict[str, Any]] = collect_request_attributes
        self._redactor = redactor

    def start(self, exchange: Exchange) -> dict[str, Any]:
        """What is known when a request starts."""
        scope = {**exchange.scope}
        scope["headers"] = utf8_headers(scope.get("headers", ()))
        scope["query_string"] = text_of(scope.get("query_string", b"")).encode()
        return {
            name: encodable(self._redactor.redact_text(value)) if isinstance(value, str) else value
            for name, value in self._collect(scope).items()
        }


class Both:
    """The stable conventions and the old ones beside them.

    Args:
        stable: The stable ones.
        legacy: The old ones.
    """

    def __init__(self, stable: Stable, legacy: Legacy) -> None:
        self._stable = stable
        self._legacy = legacy
        self.status_names: tuple[str, ...] = (*stable.status_names, *legacy.status_names)

    def start(self, exchange: Exchange) -> dict[str, Any]:
        """What is known when a request starts."""
        return {**self._legacy.start(exchange), **self._stable.start(exchange)}
