"""Health: what the service depends on, whether it is ready and alive, and what to tell those who ask.

A check runs when somebody asks, and everybody who asks meanwhile, or within its `ttl`, gets the same result; or it
runs in the background, every `period`, and everybody gets the latest result at once.
"""

from asgi_obs.health.registry import HealthRegistry
from asgi_obs.health.result import CheckResult, HealthReport
from asgi_obs.health.state import Readiness, ReadinessReport

__all__ = ["CheckResult", "HealthRegistry", "HealthReport", "Readiness", "ReadinessReport"]
