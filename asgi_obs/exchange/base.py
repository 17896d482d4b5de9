"""What HTTP and WebSocket exchanges have in common: the fields, and how an exchange ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Lock
from time import perf_counter
from typing import Any, Final

from opentelemetry.trace import SpanContext

from asgi_obs.classify import Outcome, is_departure, outcome_of, status_of
from asgi_obs.errors import report_call
from asgi_obs.exchange.database import DatabaseUse
from asgi_obs.exchange.hooks import Hooks
from asgi_obs.routes import Routes
from asgi_obs.types import Message, Receive, Scope, Send

__all__ = ["Exchange"]

_first_statement: Final = Lock()
"""Two threads of one exchange may have their first statement at the same time."""

_NO_HEADERS: Final[dict[bytes, bytes]] = {}


class Exchange:
    """What is known of one HTTP request and its response, or of one WebSocket session.

    Attributes:
        scope: The ASGI scope as the outermost middleware got it.
        inner_scope: The scope of the innermost middleware that joined: the same one, unless a middleware in
            between handed on a copy.
        method: The request method as sent; `GET` for a WebSocket.
        path: The path as sent, decoded by the server, with the proxy's prefix if there is one.
        route: The route template. None until the end hooks run, and for what has none; may be set earlier by
            the application, which is then believed. `resolve_route()` tells it at any time.
        correlation_id: Set by `CorrelationIdMiddleware`.
        span_context: Of its span, set by `TracingMiddleware` when there is a valid one.
        started_at: When the exchange was opened, in seconds of `time.perf_counter`, as are the next three.
        first_byte_at: When the start of the response was handed to the server.
        ended_at: When the server accepted the last message.
        returned_at: When the application returned.
        status: The status. None until known.
        outcome: See `asgi_obs.classify`. None until the exchange ends.
        exception: What the application raised before the exchange ended. Let go, as is the next one, when all
            hooks have run.
        late_exception: What it raised afterwards, in a background task.
        bytes_in: Bytes of the request body, or of received WebSocket messages, so far.
        bytes_out: Bytes of the response body, or of sent WebSocket messages, so far; none for HEAD, whose
            body no server sends.
        fields: What `bind()` added; None if nothing was.
        database: What it has asked of databases; None if nothing, or nobody who was told to look.
        operational: True for a request to the ops paths.
        hooks: The hooks of the observers that watch it.
    """

    __slots__ = (
        "_disconnected",
        "_finishing",
        "_headers",
        "_left_before_start",
        "_notes",
        "_receive",
        "_routes",
        "_send",
        "bytes_in",
        "bytes_out",
        "correlation_id",
        "database",
        "ended_at",
        "exception",
        "fields",
        "first_byte_at",
        "hooks",
        "inner_scope",
        "late_exception",
        "method",
        "operational",
        "outcome",
        "path",
        "returned_at",
        "route",
        "scope",
        "span_context",
        "started_at",
        "status",
    )

    bytes_in: int
    bytes_out: int
    correlation_id: str | None
    database: DatabaseUse | None
    ended_at: float | None
    exception: BaseException | None
    fields: dict[str, Any] | None
    first_byte_at: float | None
    late_exception: BaseException | None
    operational: bool
    outcome: Outcome | None
    returned_at: float | None
    route: str | None
    span_context: SpanContext | None
    status: int | None
    _headers: dict[bytes, bytes] | None
    _notes: dict[object, Any] | None

    def __init__(self, scope: Scope, receive: Receive, send: Send, hooks: Hooks, routes: Routes) -> None:
        self.started_at = perf_counter()
        self.scope = self.inner_scope = scope
        self.method: str = scope.get("method", "GET")
        self.path: str = scope.get("path", "")
        self.hooks = hooks
        self._receive = receive
        self._send = send
        self._routes = routes
        self.bytes_in = self.bytes_out = 0
        self._disconnected = self._left_before_start = self._finishing = False
        self.operational = False
        self.correlation_id = self.span_context = self.fields = self.database = None
        self.route = self.status = self.outcome = self.exception = self.late_exception = None
        self.first_byte_at = self.ended_at = self.returned_at = None
        self._headers = self._notes = None

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The request headers by lower-case name; of several with one name, the last."""
        if self._headers is None:
            try:
                self._headers = dict(self.scope["headers"])
            except (KeyError, TypeError, ValueError):
                self._headers = _NO_HEADERS
        return self._headers

    @property
    def trace_id(self) -> str | None:
        """The ID of its trace, 32 hex digits."""
        return None if self.span_context is None else f"{self.span_context.trace_id:032x}"

    @property
    def span_id(self) -> str | None:
        """The ID of its span, 16 hex digits."""
        return None if self.span_context is None else f"{self.span_context.span_id:016x}"

    @property
    def sampled(self) -> bool:
        """Whether its trace is sampled."""
        return self.span_context is not None and self.span_context.trace_flags.sampled

    @property
    def duration(self) -> float:
        """Seconds from start to end; to now while it has not ended."""
        return (self.ended_at or perf_counter()) - self.started_at

    @property
    def time_to_first_byte(self) -> float | None:
        """Seconds from start to first byte; None if no response was started."""
        return None if self.first_byte_at is None else self.first_byte_at - self.started_at

    def bind(self, **fields: Any) -> None:
        """Add fields to the final log line and span, and to every log record from here on."""
        if self.fields is None:
            self.fields = fields
        else:
            self.fields.update(fields)

    def use_database(self, fingerprint: str | None, seconds: float) -> int:
        """Count a statement of this exchange that has ended; the arguments and the answer are `DatabaseUse.add`'s."""
        use = self.database
        if use is None:
            with _first_statement:
                use = self.database = self.database or DatabaseUse()
        return use.add(fingerprint, seconds)

    def note(self, key: object, value: Any) -> None:
        """Keep what an observer has to remember of this exchange; `key` is the observer, or its own."""
        if self._notes is None:
            self._notes = {}
        self._notes[key] = value

    def noted(self, key: object) -> Any:
        """What was kept under `key`, else None."""
        return None if self._notes is None else self._notes.get(key)

    def resolve_route(self) -> str | None:
        """The route template as far as it is known now: after routing, before the end."""
        return self.route or self._routes.resolve(self.inner_scope)

    def use_routes(self, routes: Routes) -> None:
        """Take the route resolver of a middleware further in, if there is none so far."""
        if not self._routes.custom:
            self._routes = routes

    def start(self, hooks: Hooks) -> list[Callable[[], object]] | None:
        """Call the start hooks of some observers; return what undoes their changes to the context."""
        undo: list[Callable[[], object]] | None = None
        for hook in hooks.start:
            try:
                restore = hook(self)
            except Exception as error:  # noqa: BLE001 - fail open: an observer never breaks a request
                report_call(hook, error)
            else:
                if restore is not None:
                    undo = [restore] if undo is None else [*undo, restore]
        return undo

    def returned(self, exception: BaseException | None) -> None:
        """The application returned (None) or raised: end, if the response has not done so already."""
        self.returned_at = perf_counter()
        if self.outcome is None:
            self._end(exception)
        elif isinstance(exception, Exception) and not is_departure(exception):
            self.late_exception = exception
        for hook in self.hooks.returned:
            try:
                hook(self)
            except Exception as error:  # noqa: BLE001 - fail open: an observer never breaks a request
                report_call(hook, error)

    def _open_response(self, message: Message) -> Message:
        """Show the start of the response to the observers: a copy, so that they may add headers."""
        message = {**message}
        for hook in self.hooks.response_start:
            try:
                hook(self, message)
            except Exception as error:  # noqa: BLE001 - fail open: an observer never breaks a request
                report_call(hook, error)
        return message

    def _show(self, message: Message, hooks: Iterable[Callable[..., object]]) -> None:
        """Show a message to the observers that want to see its kind."""
        for hook in hooks:
            try:
                hook(self, message)
            except Exception as error:  # noqa: BLE001 - fail open: an observer never breaks a request
                report_call(hook, error)

    def _client_left(self) -> None:
        if self.ended_at is None and not self._disconnected:
            self._disconnected = True
            self._left_before_start = self.status is None

    def _end(self, exception: BaseException | None) -> None:
        """Judge what was seen, and tell the observers; happens once."""
        complete = self.ended_at is not None
        if not complete:
            self.ended_at = perf_counter()
        self.exception = exception
        self._judge(complete)
        if self.hooks.end:
            if self.route is None:
                self.route = self._routes.resolve(self.inner_scope)
            for hook in self.hooks.end:
                try:
                    hook(self)
                except Exception as error:  # noqa: BLE001 - fail open: an observer never breaks a request
                    report_call(hook, error)

    def _judge(self, complete: bool) -> None:  # noqa: FBT001 - called once per request: a keyword costs time
        disconnected = self._disconnected
        if complete and self.exception is None and not disconnected and self.status is not None:
            self.outcome = "completed"  # nothing to judge: nearly always
            return
        self.outcome = outcome_of(exception=self.exception, disconnected=disconnected, complete=complete)
        if disconnected or self.status is None:
            self.status = status_of(sent=self.status, outcome=self.outcome, left_before_start=self._left_before_start)
