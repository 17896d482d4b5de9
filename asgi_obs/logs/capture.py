"""`Capture`: headers and bodies in the line of a request. Off unless it is given, and then by allow-list only.

Bodies are looked at as they pass: no message is changed, held back or waited for, and what is kept of one is a copy
of at most `max_bytes`. Everything is redacted before it reaches the record. Costs about 15 µs per request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, TypeAlias

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.exchange import Exchange
from asgi_obs.redaction import Redactor
from asgi_obs.types import Message, Observer

__all__ = ["Capture"]

EVENT_STREAM: Final = "text/event-stream"
IDENTITY: Final = b"identity"
FORM: Final = "application/x-www-form-urlencoded"

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The name of a header: a token of RFC 9110, section 5.6.2."""

_MEDIA_TYPE: Final = re.compile(r"[^\s/*;]+/(?:\*|[^\s/*;]+)")

_Headers: TypeAlias = Iterable[tuple[bytes, bytes]]


class Capture(Observer):
    """What `RequestLoggingMiddleware` adds to its line of the headers and bodies of a request and its response.

    `request_headers` and `response_headers` are objects of names and values, several values of one name joined by
    `, `; sensitive ones are masked although they were asked for. `request_body` and `response_body` are texts, bytes
    that are no UTF-8 escaped; a JSON body that is whole is taken apart, so that it is redacted by key at any depth.
    `request_body_truncated` or `response_body_truncated` is true if there was more.

    Never captured are bodies without a content type, of event streams, with a content encoding (what is compressed
    cannot be redacted), responses of more than one piece without a content length, which are streams, and files
    that the server sends itself. Of a request body there is what the application has read of it.

    Args:
        request_headers: Names of headers, in any case.
        response_headers: Likewise.
        request_body: Content types of the bodies to capture, such as `application/json` or `text/*`.
        response_body: Likewise.
        max_bytes: How much of a body is kept.

    Raises:
        ConfigurationError: An option has a wrong value.
    """

    def __init__(
        self,
        *,
        request_headers: Collection[str] = (),
        response_headers: Collection[str] = (),
        request_body: Collection[str] = (),
        response_body: Collection[str] = (),
        max_bytes: int = 4096,
    ) -> None:
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
            raise ConfigurationError("max_bytes", max_bytes, "a whole number from 1")
        self._request_headers = _names("request_headers", request_headers)
        self._response_headers = _names("response_headers", response_headers)
        self._request_types = _media_types("request_body", request_body)
        self._response_types = _media_types("response_body", response_body)
        self._max_bytes = max_bytes

    def on_start(self, exchange: Exchange) -> None:
        """See whether the request body is one to keep."""
        seen = _Seen()
        exchange.note(self, seen)
        seen.request = _body_to_keep(exchange.headers.items(), self._request_types)

    def on_response_start(self, exchange: Exchange, message: Message) -> None:
        """See whether the response body is one to keep."""
        seen: _Seen | None = exchange.noted(self)
        status = message.get("status", 101)
        if seen is not None and (status >= 200 or status == 101):  # the rest of 1xx only announces
            seen.start = message
            seen.response = _body_to_keep(message.get("headers", ()), self._response_types)

    def on_body(self, exchange: Exchange, message: Message) -> None:
        """Keep a copy of the beginning of a body."""
        seen: _Seen | None = exchange.noted(self)
        if seen is None:
            return
        body = seen.request
        if message["type"] != "http.request":
            if seen.response is not None and message.get("more_body") and not seen.response.has_length:
                seen.response = None
            body = seen.response
        if body is not None:
            body.data += message.get("body", b"")[: self._max_bytes - len(body.data)]

    def fields(self, exchange: Exchange, redactor: Redactor) -> dict[str, Any]:
        """The fields for the line of an exchange that has ended, redacted; never raises."""
        seen: _Seen | None = exchange.noted(self)
        if seen is None:
            return {}
        try:
            fields = dict(self._header_fields(exchange, seen, redactor))
            for name, body, size in (
                ("request_body", seen.request, exchange.bytes_in),
                ("response_body", seen.response, exchange.bytes_out),
            ):
                if body is not None and body.data:
                    cut = size > len(body.data)
                    fields[name] = body.redacted(name, redactor, cut=cut)
                    if cut:
                        fields[f"{name}_truncated"] = True
        except Exception as error:  # noqa: BLE001 - fail open: a line without them is better than none
            report("Capture.fields", error)
            return {}
        return fields

    def _header_fields(self, exchange: Exchange, seen: _Seen, redactor: Redactor) -> Iterator[tuple[str, Any]]:
        for name, headers, wanted in (
            ("request_headers", exchange.scope["headers"], self._request_headers),
            ("response_headers", seen.start.get("headers", ()), self._response_headers),
        ):
            values: dict[str, str] = {}
            for raw_name, raw_value in headers if wanted else ():
                header = wanted.get(raw_name.lower())
                if header is not None:
                    value = raw_value.decode("latin-1")
                    values[header] = f"{values[header]}, {value}" if header in values else value
            if values:
                yield name, {header: redactor.redact_field(header, value) for header, value in values.items()}


class _Body:
    """The beginning of a body.

    Attributes:
        data: The bytes so far.
        media_type: The content type without its parameters.
        has_length: Whether its length was told in advance.
    """

    __slots__ = ("data", "has_length", "media_type")

    def __init__(self, media_type: str, *, has_length: bool) -> None:
        self.data = bytearray()
        self.media_type = media_type
        self.has_length = has_length

    def redacted(self, name: str, redactor: Redactor, *, cut: bool) -> Any:
        """The value of the field `name`."""
        media_type = self.media_type
        if not cut and (media_type == "application/json" or media_type.endswith("+json")):
            try:
                return redactor.redact_field(name, json.loads(self.data))
            except (ValueError, RecursionError):  # then it is a text like any other
                pass
        # Without the zero bytes UTF-16 is as readable to the redactor as it is to a person.
        text = self.data.decode("utf-8", "backslashreplace").replace("\0", "")
        return redactor.redact_query(text) if media_type == FORM else redactor.redact_field(name, text)


class _Seen:
    """What was seen of one exchange so far."""

    __slots__ = ("request", "response", "start")

    def __init__(self) -> None:
        self.start: Message = {}
        self.request: _Body | None = None
        self.response: _Body | None = None


def _body_to_keep(headers: _Headers, types: Collection[str]) -> _Body | None:
    """Where to keep the body with these headers; None if it is not to be kept."""
    if not types:
        return None
    about = {name.lower(): value for name, value in headers}
    media_type = about.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    kind, slash, _ = media_type.partition("/")
    if media_type not in types and f"{kind}{slash}*" not in types:
        return None
    if media_type == EVENT_STREAM or about.get(b"content-encoding", IDENTITY).lower() != IDENTITY:
        return None
    return _Body(media_type, has_length=b"content-length" in about)


def _names(option: str, names: Collection[str]) -> dict[bytes, str]:
    """The names as they are on the wire, and as they are in the log."""
    allowed = "a list of names of headers, such as ['content-type']"
    return {name.lower().encode(): name.lower() for name in _checked(option, names, _NAME, allowed)}


def _media_types(option: str, types: Collection[str]) -> frozenset[str]:
    allowed = "a list of content types, such as ['application/json', 'text/*'], without event streams"
    checked = frozenset(kind.lower() for kind in _checked(option, types, _MEDIA_TYPE, allowed))
    if EVENT_STREAM in checked:
        raise ConfigurationError(option, EVENT_STREAM, allowed)
    return checked


def _checked(option: str, values: Collection[str], pattern: re.Pattern[str], allowed: str) -> Collection[str]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Collection):
        raise ConfigurationError(option, values, allowed)
    for value in values:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ConfigurationError(option, value, allowed)
    return values
