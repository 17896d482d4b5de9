"""Fields for all records of a piece of work: `LogContext` around it, `bind` from within.

Both cost a ContextVar and a small dictionary. Inside a request `bind` adds to the exchange, so that the final log
line and the span get it too, whichever thread it is called in.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final

from asgi_obs.exchange import Exchange, current_exchange

__all__ = ["Layer", "LogContext", "ambient_fields", "bind", "current_layer", "given_fields"]

_NOTHING: Final[Mapping[str, Any]] = {}


class Layer:
    """The fields that hold in one place; never changed, so that no task sees what another adds.

    Attributes:
        fields: Those of the contexts that were entered in the same exchange, or outside of any.
        around: Those of the contexts around that exchange.
        exchange: That exchange: its own fields stand between the two.
        outer: The layer to return to.
        owner: The context that made it; None if `bind` did.
        seen: What a reader has made of its fields, for that reader to know again.
    """

    __slots__ = ("around", "exchange", "fields", "outer", "owner", "seen")

    def __init__(self, own: Mapping[str, Any], outer: Layer | None, owner: LogContext | None) -> None:
        self.exchange = current_exchange()
        self.outer = outer
        self.owner = owner
        self.seen: tuple[object, dict[str, Any], dict[str, Any]] | None = None
        if outer is None:
            self.around, self.fields = _NOTHING, own
        elif outer.exchange is self.exchange:
            self.around, self.fields = outer.around, {**outer.fields, **own}
        else:
            self.around, self.fields = {**outer.around, **outer.fields}, own


_layer: ContextVar[Layer | None] = ContextVar("asgi_obs.log_context", default=None)


class LogContext:
    """Adds fields to every record that is logged inside of the block.

    Works with `with` and `async with`, nests, and may be entered again and by several tasks at once; tasks and
    threads that are started inside with a copy of the context have it too. Fields of the schema stand at the top
    level of a record, others under `context`; those of a record's own `extra` win.

    Args:
        correlation_id: The correlation ID inside of the block, in place of that of the request around it.
        **fields: Any others.
    """

    __slots__ = ("_fields",)

    def __init__(self, /, correlation_id: str | None = None, **fields: Any) -> None:
        self._fields = fields if correlation_id is None else {"correlation_id": correlation_id, **fields}

    def __enter__(self) -> LogContext:  # noqa: PYI034 - `Self` is not in Python 3.10
        _layer.set(Layer(self._fields, _layer.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Not by token: a block may be left in another context than it was entered in, where it does not hold.
        layer = _layer.get()
        while layer is not None and layer.owner is not self:
            layer = layer.outer
        if layer is not None:
            _layer.set(layer.outer)

    async def __aenter__(self) -> LogContext:  # noqa: PYI034 - as above
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


def bind(**fields: Any) -> None:
    """Add fields to every record from here on, and to the final log line and the span of the request.

    Args:
        **fields: Inside of a request they are kept on the exchange, and so reach it from dependencies and thread
            pools too. Outside they hold to the end of the innermost `LogContext`, or else of the task or thread.
    """
    exchange = current_exchange()
    if exchange is not None:
        exchange.bind(**fields)
        return
    layer = _layer.get()
    bound = Layer(fields, layer, None if layer is None else layer.owner)
    # In the place of the innermost layer, not on top of it: leaving the block drops both.
    bound.outer = None if layer is None else layer.outer
    _layer.set(bound)


def given_fields(exchange: Exchange) -> Mapping[str, Any] | None:
    """What the contexts around this code and `bind` have given for an exchange; None if nothing."""
    layer = _layer.get()
    bound = exchange.fields
    if layer is None:
        # A copy: a thread may still be binding.
        return None if bound is None else bound.copy()
    return {**layer.around, **layer.fields, **(bound or {})}


def current_layer() -> Layer | None:
    """The fields that hold here, but for those of the exchange; None if there are none."""
    return _layer.get()


def ambient_fields(exchange: Exchange | None, span: Mapping[str, str]) -> dict[str, Any]:
    """All fields that hold here; of two sources of one field, the one nearer to the code wins.

    Args:
        exchange: The exchange that a record belongs to, if any.
        span: The fields of the current span.
    """
    layer = _layer.get()
    if exchange is None:
        return {**span} if layer is None else {**layer.around, **layer.fields, **span}
    inside = layer is not None and layer.exchange is exchange
    fields = {} if layer is None else {**layer.around, **(_NOTHING if inside else layer.fields)}
    if exchange.correlation_id is not None:
        fields["correlation_id"] = exchange.correlation_id
    if exchange.span_context is not None:
        fields["trace_id"] = exchange.trace_id
        fields["span_id"] = exchange.span_id
    fields.update(span)
    if exchange.fields is not None:
        fields.update(exchange.fields.copy())  # a thread may still be binding
    if layer is not None and inside:
        fields.update(layer.fields)
    return fields
