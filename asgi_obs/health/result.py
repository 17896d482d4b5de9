"""What a check says, and what all of them say together."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias, get_args

from asgi_obs.errors import ConfigurationError
from asgi_obs.redaction import Redactor, redactor_of

__all__ = ["STATUS_VALUES", "CheckResult", "HealthReport", "Status", "overall", "presentable"]

Status: TypeAlias = Literal["healthy", "degraded", "unhealthy"]

STATUS_VALUES: Final[Mapping[Status, float]] = {"healthy": 1.0, "degraded": 0.5, "unhealthy": 0.0}
"""A status as the value of a gauge: the higher, the better."""

MAX_TEXT: Final = 500
"""Characters of a message or a detail: a probe's answer is no place for a page of SQL."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found out.

    Attributes:
        status: `healthy`, `degraded` or `unhealthy`.
        message: What everybody who may see the checks reads; no secrets.
        detail: What is shown outside production only, such as the text of an exception.
        duration_ms: How long the check took, in milliseconds; set by the registry.

    Raises:
        ConfigurationError: `status` is none of the three, or `message` or `detail` is not text.
    """

    status: Status
    message: str = ""
    detail: str | None = None
    duration_ms: float = 0.0

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise ConfigurationError("status", self.status, f"one of {', '.join(get_args(Status))}")
        if not isinstance(self.message, str):
            raise ConfigurationError("message", self.message, "a string")
        if not isinstance(self.detail, str | None):
            raise ConfigurationError("detail", self.detail, "a string or None")

    @classmethod
    def healthy(cls, message: str = "ok", detail: str | None = None) -> CheckResult:
        """All is well."""
        return cls("healthy", message, detail)

    @classmethod
    def degraded(cls, message: str, detail: str | None = None) -> CheckResult:
        """It works, but not as it should: the service stays in rotation."""
        return cls("degraded", message, detail)

    @classmethod
    def unhealthy(cls, message: str, detail: str | None = None) -> CheckResult:
        """It does not work: the service too is unhealthy if the check is critical, else degraded."""
        return cls("unhealthy", message, detail)

    @classmethod
    def from_answer(cls, answer: object) -> CheckResult:
        """The result that a check's return value stands for: None and True are healthy, False is not."""
        if isinstance(answer, CheckResult):
            return answer
        if answer is None or answer is True:
            return cls.healthy()
        if answer is False:
            return cls.unhealthy("check failed")
        return cls.unhealthy(f"the check returned {type(answer).__name__}: expected CheckResult, bool or None")

    @classmethod
    def from_error(cls, error: BaseException) -> CheckResult:
        """The result of a check that raised: its class for everybody, its text as a detail."""
        if isinstance(error, CancelledError):
            return cls.unhealthy("the check was cancelled")
        try:
            text = str(error)
        except BaseException:  # noqa: BLE001 - the error may be broken too
            text = ""
        return cls.unhealthy(type(error).__qualname__, text or None)

    def measured(self, seconds: float, redactor: Redactor | None = None) -> CheckResult:
        """The result as it is kept: with its duration, and with texts that are safe to hand out.

        Args:
            seconds: How long it took.
            redactor: Takes the secrets out of the texts; default the one that the environment describes.
        """
        redact = (redactor or redactor_of()).redact_text
        message = presentable(redact(self.message))
        detail = None if self.detail is None else presentable(redact(self.detail))
        return replace(self, message=message, detail=detail, duration_ms=round(seconds * 1000, 2))


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What all checks together say.

    Attributes:
        status: `unhealthy` if a critical check is, `degraded` if any other check is not healthy.
        checks: The result of every check, by name, in the order they were added.
    """

    status: Status
    checks: Mapping[str, CheckResult]


def overall(results: Iterable[tuple[CheckResult, bool]]) -> Status:
    """The status of a service from its checks' results, each with whether the check is critical."""
    status: Status = "healthy"
    for result, critical in results:
        if result.status == "unhealthy" and critical:
            return "unhealthy"
        if result.status != "healthy":
            status = "degraded"
    return status


def presentable(text: str) -> str:
    """The text as it may be shown anywhere: valid, short, and one line, with spaces for what cannot be printed."""
    valid = text[:MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
    return "".join(char if char.isprintable() else " " for char in valid)
