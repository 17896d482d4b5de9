"""Headers as attributes: `http.request.header.<name>`, `http.response.header.<name>`.

Which, say the variables of opentelemetry-instrumentation-asgi, whose collection this is; the values of sensitive
headers are redacted besides. Off unless one of the variables is set.
"""

from __future__ import annotations

import re
from typing import Any, Final

from asgi_obs.errors import MissingExtraError
from asgi_obs.redaction import Redactor
from asgi_obs.redaction.mask import MASK
from asgi_obs.settings import Settings
from asgi_obs.tracing.conventions import redacted_query, utf8_headers
from asgi_obs.types import Message, Scope

__all__ = ["HeaderCapture"]

_CREDENTIAL: Final = re.compile(r"jwt|assertion|oidc|signature|cert|key|auth|x_honeycomb_team", re.IGNORECASE)
"""In the names of headers, which have underscores here, that proxies and vendors put credentials into; in addition to
those that are sensitive everywhere."""


class HeaderCapture:
    """Collects the headers of requests and responses whose names match.

    Args:
        settings: Say which, and whose values are not told.
        redactor: Redacts the others.

    Raises:
        MissingExtraError: opentelemetry-instrumentation-asgi is not installed.
    """

    def __init__(self, settings: Settings, redactor: Redactor) -> None:
        try:
            from opentelemetry.instrumentation.asgi import collect_custom_headers_attributes
            from opentelemetry.util import http
        except ImportError:
            raise MissingExtraError("capturing headers", "otel") from None
        self._collect = collect_custom_headers_attributes
        self._sanitize = http.SanitizeValue(list(settings.sanitize_headers))
        self._request = (list(settings.capture_request_headers), http.normalise_request_header_name)
        self._response = (list(settings.capture_response_headers), http.normalise_response_header_name)
        self._redactor = redactor

    def request(self, scope: Scope) -> dict[str, list[str]]:
        """The attributes for the headers of a request."""
        headers = utf8_headers(scope.get("headers", ()))
        return self._redacted(self._collect({"headers": headers}, self._sanitize, *self._request))

    def response(self, message: Message) -> dict[str, list[str]]:
        """The attributes for the headers of a response."""
        headers = utf8_headers(message.get("headers", ()))
        return self._redacted(self._collect({"headers": headers}, self._sanitize, *self._response))

    def _redacted(self, attributes: dict[str, Any]) -> dict[str, list[str]]:
        return {
            key: [self._value(key.rpartition(".")[2], value) for value in values] for key, values in attributes.items()
        }

    def _value(self, name: str, value: str) -> str:
        if _CREDENTIAL.search(name):
            return MASK
        place, mark, query = self._redactor.redact_field(name, value).partition("?")
        # The header may be a URL: `Location`, `Referer`.
        return f"{place}{mark}{redacted_query(query, self._redactor)}"
