"""The answers of health, readiness and liveness.

In JSON as the guide has it; as `application/health+json` for those who accept it
(https://datatracker.ietf.org/doc/html/draft-inadarei-api-health-check-06); with `?verbose` as plain text for people.
Who is not admitted reads a bare status. What a check says of itself is for the authorised, and outside production for
everybody; the text of an exception stays out of production's answers in any case.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final

from asgi_obs.health import CheckResult, HealthRegistry
from asgi_obs.ops.answer import Answer, json_answer, text_answer
from asgi_obs.ops.negotiation import by_preference
from asgi_obs.ops.request import Caller, OpsRequest
from asgi_obs.settings import Settings

__all__ = ["Probes"]

HEALTH_JSON: Final = "application/health+json"

_GOOD: Final = frozenset({"healthy", "degraded", "ready", "alive"})
_AS_DRAFT: Final = {"healthy": "pass", "degraded": "warn", "ready": "pass", "alive": "pass"}
"""Section 3.1 of the draft; all others fail."""

_MARKS: Final = {"healthy": "[+]", "degraded": "[~]", "unhealthy": "[-]"}


class Probes:
    """Answers what load balancers, orchestrators and people ask.

    Args:
        health: The checks.
        settings: The version, and what may be told.
    """

    def __init__(self, health: HealthRegistry, settings: Settings) -> None:
        self._health = health
        self._settings = settings
        self._is_production = settings.environment == "production"

    async def health(self, request: OpsRequest) -> Answer:
        """All checks, or those of the group that is the request's argument."""
        report = await self._health.run(request.argument or None)
        content = {"version": self._settings.version, "checks": report.checks, "timestamp": _now()}
        return self._answer(request, report.status, content)

    async def ready(self, request: OpsRequest) -> Answer:
        """Whether the service wants requests."""
        report = await self._health.ready()
        if report.ready:
            return self._answer(request, "ready", {}, report.checks)
        why = {"state": report.state, "reason": report.reason} if report.state != "ready" else {}
        return self._answer(request, "not_ready", {**why, "checks": report.checks})

    async def live(self, request: OpsRequest) -> Answer:
        """Whether the process should go on; asks nothing but the process itself."""
        report = self._health.live()
        if report.status == "unhealthy":
            return self._answer(request, "not_alive", {"checks": report.checks})
        return self._answer(request, "alive", {}, report.checks)

    def _answer(
        self, request: OpsRequest, status: str, content: dict[str, Any], checks: Mapping[str, CheckResult] | None = None
    ) -> Answer:
        """An answer in the format that is asked for.

        Args:
            request: The request.
            status: The status in words.
            content: What else the guide's JSON has, for those who are admitted.
            checks: The checks that only the other formats have.
        """
        code = 200 if status in _GOOD else 503
        results: Mapping[str, CheckResult] = content.get("checks", checks or {})
        if not request.caller.admitted:
            content, results = {}, {}
        if "verbose" in request.query:
            return text_answer(self._as_text(status, results, request.caller), status=code)
        if _accepts_draft(request):
            draft = self._as_draft(status, results, request.caller)
            return json_answer(draft, status=code, media_type=HEALTH_JSON.encode())
        if "checks" in content:
            content = {**content, "checks": self._as_guide(results, request.caller)}
        return json_answer({"status": status, **content}, status=code)

    def _as_guide(self, results: Mapping[str, CheckResult], caller: Caller) -> dict[str, dict[str, Any]]:
        return {
            name: {
                "status": result.status,
                "message": self._message(result, caller),
                "duration_ms": result.duration_ms,
            }
            for name, result in results.items()
        }

    def _as_draft(self, status: str, results: Mapping[str, CheckResult], caller: Caller) -> dict[str, Any]:
        checks = {
            name: [
                {
                    "status": _AS_DRAFT.get(result.status, "fail"),
                    "observedValue": result.duration_ms,
                    "observedUnit": "ms",
                    "output": self._message(result, caller),
                }
            ]
            for name, result in results.items()
        }
        about = {"serviceId": self._settings.service_name, "releaseId": self._settings.version}
        return {"status": _AS_DRAFT.get(status, "fail"), **(about if caller.admitted else {}), "checks": checks}

    def _as_text(self, status: str, results: Mapping[str, CheckResult], caller: Caller) -> str:
        lines = [
            f"{_MARKS[result.status]} {name} {result.duration_ms:g} ms {self._message(result, caller)}".rstrip()
            for name, result in results.items()
        ]
        return "\n".join([*lines, status, ""])

    def _message(self, result: CheckResult, caller: Caller) -> str:
        if self._is_production:
            return result.message if caller.authorised else ""
        return ": ".join(filter(None, (result.message, result.detail)))


def _accepts_draft(request: OpsRequest) -> bool:
    accepted = by_preference(request.header(b"accept").lower())
    return any(media_range.partition(";")[0] == HEALTH_JSON for media_range in accepted)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
