"""`Endpoint`: one of the paths of the ops app, and who may ask it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from asgi_obs.ops.answer import Answer, Header, json_answer
from asgi_obs.ops.request import OpsRequest

__all__ = ["Access", "Endpoint"]

Access: TypeAlias = Literal["open", "guarded", "control"]
"""`open`: everybody, for a bare status. `guarded`: those who are admitted. `control`: those with a credential; every
use is in the audit log, and where there is no credential there is no such endpoint."""


@dataclass(frozen=True)
class Endpoint:
    """A path and what answers it.

    Attributes:
        name: The word in `OPS_ENDPOINTS` that switches it on.
        path: Without the prefix. `{name}` at its end stands for the argument.
        answer: Answers a request.
        access: Who may ask.
        methods: The methods, apart from HEAD.
    """

    name: str
    path: str
    answer: Callable[[OpsRequest], Awaitable[Answer]]
    access: Access = "guarded"
    methods: tuple[str, ...] = ("GET",)

    def allows(self, method: str) -> bool:
        """Whether it has a method; HEAD is GET without the body."""
        return method == "HEAD" or method in self.methods

    @property
    def refusal(self) -> Answer:
        """The answer to another method."""
        allow: Header = (b"allow", ", ".join(("HEAD", *self.methods)).encode("ascii"))
        return json_answer({"detail": "Method Not Allowed"}, status=405, headers=(allow,))
