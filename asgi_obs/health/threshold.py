"""Thresholds: how many runs in a row it takes until another status is shown.

What a dependency does once in a while then moves no load balancer. Costs nothing where both thresholds are 1.
"""

from __future__ import annotations

from dataclasses import replace

from asgi_obs.health.result import MAX_TEXT, CheckResult

__all__ = ["Threshold"]


class Threshold:
    """Decides what is shown of the results of a check.

    Args:
        failures: Unhealthy runs in a row until the check is shown unhealthy.
        successes: Other runs in a row until it is no longer.
    """

    def __init__(self, failures: int, successes: int) -> None:
        self._failures = failures
        self._successes = successes
        self._against = 0

    def show(self, shown: CheckResult | None, result: CheckResult) -> CheckResult:
        """What is shown after a run.

        A result on the same side, or the first one, is shown as it is. One on the other side leaves the status and
        the message as they were until there are enough of them in a row; its own texts are the detail.

        Args:
            shown: What was shown before; None if nothing was.
            result: What the run found.
        """
        has_failed = result.status == "unhealthy"
        needed = self._failures if has_failed else self._successes
        if shown is None or has_failed == (shown.status == "unhealthy"):
            self._against = 0
            return result
        self._against += 1
        if self._against >= needed:
            self._against = 0
            return result
        verb = "failed" if has_failed else "succeeded"
        text = ": ".join(filter(None, (result.message, result.detail)))
        detail = f"{verb} {self._against} of {needed} times: {text}"[:MAX_TEXT]
        return replace(shown, detail=detail, duration_ms=result.duration_ms)
