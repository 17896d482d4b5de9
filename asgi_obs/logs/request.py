"""`RequestLoggingMiddleware`: one canonical log line per exchange.

The line is written when the exchange ends, through `logging` like any other: its fields are attributes of the
record. Another one, at DEBUG, is written when the exchange starts, and one at ERROR if a background task fails.
Lines of successes can be sampled (`Sampling`), headers and bodies added (`Capture`), and with `OPS_TOKEN` set single
requests logged at DEBUG (`DebugHeader`), with both lines in any case; none of this costs while it is off.
An exchange costs about 4 µs, and 7 with its line formatted as JSON and written: twice a bare `logging` call.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from asgi_obs.errors import ConfigurationError, report
from asgi_obs.exchange import Exchange, ExchangeMiddleware, HttpExchange, WebSocketExchange, within_exchange
from asgi_obs.logs.buffer import write_kept_lines
from asgi_obs.logs.capture import Capture
from asgi_obs.logs.client import TrustedProxies, has_credential, peer_address, scope_user_id
from asgi_obs.logs.context import given_fields
from asgi_obs.logs.debug_header import DebugHeader
from asgi_obs.logs.fields import span_fields
from asgi_obs.logs.records import make_record
from asgi_obs.logs.safe import safe_text
from asgi_obs.logs.sampling import Sampling
from asgi_obs.logs.selected import SELECTED
from asgi_obs.redaction import redactor_for, redactor_of
from asgi_obs.settings import Settings
from asgi_obs.types import ASGIApp, Observer

__all__ = ["RequestLoggingMiddleware"]

LOGGER: Final = "asgi_obs.request"

MAX_USER_AGENTS: Final = 256
"""User agents that are kept, redacted; they may be as long as the server lets a header be."""

_FAILED: Final = frozenset({"error", "incomplete"})
_INCOMPLETE: Final = {"type": "incomplete", "message": "the application returned without finishing the response"}
_LEFT_OUT: Final[Mapping[str, Any]] = {}
_TOP_LEVEL: Final = frozenset({"correlation_id", "user_id", "request_id"})
"""What the application may give and the schema has a place for; all else is under `context`."""


class RequestLoggingMiddleware(ExchangeMiddleware, Observer):
    """Writes one log line for every HTTP request and every WebSocket session.

    Levels: ERROR for a status of 500 and above, for an application that raised, and for a response that was left
    unfinished; INFO for all else. Requests to the ops paths get no line while they succeed, and none for a 503. Stand
    inside of `CorrelationIdMiddleware`, or the line at the start has no correlation ID yet.

    Args:
        app: The ASGI application to wrap.
        logger: The name of the logger; its level says which lines are written.
        warn_client_errors: Write the line of a 4xx with level WARN.
        trusted_proxies: Addresses and CIDR networks of the proxies in front; the `X-Forwarded-For` that comes
            through them tells `client_ip`. Without any it is the other end of the connection.
        user_id: Tells the user of an exchange that has ended, if the application has not bound a `user_id`; None
            if there is none. Default: by `scope["user"]`. What it raises is reported.
        sampling: Which lines of successful exchanges are written; default as the settings say.
        capture: Which headers and bodies are added to the line; none by default.
        settings: Say what is redacted and how lines are sampled, in place of the environment.

    Raises:
        ConfigurationError: An option has a wrong value.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        logger: str = LOGGER,
        warn_client_errors: bool = False,
        trusted_proxies: Iterable[str] = (),
        user_id: Callable[[Exchange], Any] = scope_user_id,
        sampling: Sampling | None = None,
        capture: Capture | None = None,
        settings: Settings | None = None,
    ) -> None:
        if not isinstance(logger, str) or not logger:
            raise ConfigurationError("logger", logger, "the name of a logger")
        if isinstance(trusted_proxies, str):
            raise ConfigurationError("trusted_proxies", trusted_proxies, "a list, such as ['10.0.0.0/8']")
        if not callable(user_id):
            raise ConfigurationError("user_id", user_id, "a callable that takes an exchange")
        _require("sampling", sampling, Sampling)
        _require("capture", capture, Capture)
        _require("settings", settings, Settings)
        self._logger = logging.getLogger(logger)
        self._client_error_level = logging.WARNING if warn_client_errors else logging.INFO
        proxies = tuple(trusted_proxies)
        self._client_address = TrustedProxies(proxies).client_address if proxies else peer_address
        self._user_id = user_id
        self._always_asks_user = user_id is not scope_user_id
        self._redactor = redactor_of() if settings is None else redactor_for(settings)
        self._redact_text = redact_text = self._redactor.redact_text
        # They are few, come often, and are too long for the redactor to remember them itself.
        self._user_agent = lru_cache(MAX_USER_AGENTS)(lambda value: redact_text(value.decode("latin-1")))
        sampling = Sampling.of(settings) if sampling is None else sampling
        self._sampling = sampling if sampling.active else None
        self._capture = capture
        self._adds = self._sampling is not None or capture is not None
        token = Settings.read("ops_token") if settings is None else settings.ops_token
        self._may_select = bool(token)
        observers: tuple[Observer, ...] = (self,) if capture is None else (self, capture)
        super().__init__(app, observers=(DebugHeader(token), *observers) if token else observers)

    def on_start(self, exchange: Exchange) -> None:
        """Write the line at the start, if DEBUG is on."""
        selected = self._may_select and exchange.noted(SELECTED)
        if (selected or self._logger.isEnabledFor(logging.DEBUG)) and not exchange.operational:
            fields = self._place(exchange)
            self._handle(logging.DEBUG, f"{_title(exchange, fields)} started", fields)

    def on_end(self, exchange: Exchange) -> None:
        """Write the canonical line."""
        status = exchange.status or 0
        outcome = exchange.outcome
        if exchange.operational and (status < 400 or status == 503) and outcome == "completed":
            return  # a probe that fails is one of many: health says once what has changed
        if status >= 500 or outcome in _FAILED:
            level = logging.ERROR
            write_kept_lines(exchange)
        elif status >= 400:
            level = self._client_error_level
        else:
            level = logging.INFO
        logger = self._logger
        selected = self._may_select and exchange.noted(SELECTED)
        if not selected and not logger.isEnabledFor(level):
            return
        added = self._added(exchange) if self._adds else None
        if added is _LEFT_OUT:
            return
        fields = self._fields(exchange, status)
        failure = None
        if outcome != "completed":
            failure = exchange.exception if outcome == "error" else None
            if outcome == "incomplete":
                fields["error"] = _INCOMPLETE.copy()
        if type(exchange) is WebSocketExchange:
            _add_session(exchange, fields)
            message = f"WebSocket {fields['path']} {exchange.close_code}"
        else:
            message = f"{exchange.method} {fields['path']} {status}"
        if added:
            fields.update(added)
        record = make_record(logger, level, message, fields, redactor=self._redactor, failure=failure)
        if selected:
            with within_exchange(exchange):  # handlers look for it, and it may end outside of its own context
                logger.handle(record)
        else:
            logger.handle(record)

    def on_return(self, exchange: Exchange) -> None:
        """Write a line for what a background task raised."""
        failure = exchange.late_exception
        if failure is not None and self._logger.isEnabledFor(logging.ERROR):
            self._handle(logging.ERROR, "background task failed", self._place(exchange), failure)

    def _handle(self, level: int, message: str, fields: dict[str, Any], failure: BaseException | None = None) -> None:
        logger = self._logger
        logger.handle(make_record(logger, level, message, fields, redactor=self._redactor, failure=failure))

    def _added(self, exchange: Exchange) -> Mapping[str, Any]:
        """What sampling and capture add to the canonical line; `_LEFT_OUT` if there is to be none."""
        added: dict[str, Any] = {}
        if self._sampling is not None and not exchange.noted(SELECTED):
            rate = self._sampling.rate_if_kept(exchange)
            if rate is None:
                return _LEFT_OUT
            if rate < 1:
                added["sample_rate"] = rate
        if self._capture is not None:
            added.update(self._capture.fields(exchange, self._redactor))
        return added

    def _place(self, exchange: Exchange) -> dict[str, Any]:
        """The fields of a line that says no more than which exchange it is about."""
        fields = _ids(exchange)
        fields["method"] = exchange.method
        fields["path"] = self._redact_text(exchange.path)
        if exchange.route is not None:
            fields["route"] = exchange.route
        return fields

    def _fields(self, exchange: Exchange, status: int) -> dict[str, Any]:
        """The fields of the canonical line, in the order of the schema; what has no value is left out."""
        scope = exchange.scope
        fields = _ids(exchange)
        given = given_fields(exchange)
        if given is not None or self._always_asks_user or "user" in exchange.inner_scope:
            self._add_identity(exchange, given or {}, fields)
        fields["method"] = exchange.method
        fields["path"] = self._redact_text(exchange.path)
        if exchange.route is not None:
            fields["route"] = exchange.route
        fields["status_code"] = status
        # Whole microseconds, cut off: `round` takes longer than all the other fields together.
        fields["duration_ms"] = int(exchange.duration * 1e6) / 1000
        if exchange.first_byte_at is not None:
            fields["ttfb_ms"] = int((exchange.first_byte_at - exchange.started_at) * 1e6) / 1000
        fields["bytes_in"] = exchange.bytes_in
        fields["bytes_out"] = exchange.bytes_out
        fields["outcome"] = exchange.outcome
        if exchange.database is not None:
            fields["db_queries"] = exchange.database.queries
            fields["db_duration_ms"] = int(exchange.database.seconds * 1e6) / 1000
        if scope.get("query_string"):
            fields["query"] = self._redactor.redact_query(scope["query_string"].decode("latin-1"))
        client_ip = self._client_address(scope)
        if client_ip is not None:
            fields["client_ip"] = client_ip
        headers = exchange.headers
        if b"user-agent" in headers:
            fields["user_agent"] = self._user_agent(headers[b"user-agent"])
        fields["http_version"] = scope.get("http_version")
        fields["scheme"] = scope.get("scheme")
        # Most requests have neither: then the call itself would be the most of it.
        fields["authenticated"] = b"authorization" in headers or (b"cookie" in headers and has_credential(exchange))
        if given is not None:
            context = {name: value for name, value in given.items() if name not in _TOP_LEVEL}
            if context:
                fields["context"] = self._redactor.redact(context)
        return fields

    def _add_identity(self, exchange: Exchange, given: Mapping[str, Any], fields: dict[str, Any]) -> None:
        user_id = given.get("user_id")
        if user_id is None:
            try:
                user_id = self._user_id(exchange)
            except Exception as error:  # noqa: BLE001 - fail open: a line without a user is better than none
                report("RequestLoggingMiddleware.user_id", error)
        for name, value in (("user_id", user_id), ("request_id", given.get("request_id"))):
            if value is not None:
                fields[name] = value if isinstance(value, int) else self._redact_text(safe_text(value))
        if "correlation_id" in given:
            fields.setdefault("correlation_id", self._redact_text(safe_text(given["correlation_id"])))


def _require(option: str, value: object, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(option, value, f"None, or a {kind.__name__}")


def _ids(exchange: Exchange) -> dict[str, Any]:
    """The first fields of a line. From the exchange itself: the line may be written outside of its context."""
    fields: dict[str, Any] = {}
    if exchange.correlation_id is not None:
        fields["correlation_id"] = exchange.correlation_id
    if exchange.span_context is not None:
        fields["trace_id"] = exchange.trace_id
        fields["span_id"] = exchange.span_id
    elif "opentelemetry.sdk.trace" in sys.modules:  # else there are no spans, and looking for one takes long
        fields.update(span_fields())
    return fields


def _title(exchange: Exchange, fields: Mapping[str, Any]) -> str:
    return f"{fields['method'] if type(exchange) is HttpExchange else 'WebSocket'} {fields['path']}"


def _add_session(exchange: WebSocketExchange, fields: dict[str, Any]) -> None:
    fields["close_code"] = exchange.close_code
    fields["messages_in"] = exchange.messages_in
    fields["messages_out"] = exchange.messages_out
