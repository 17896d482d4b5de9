"""Health: what the service depends on, whether it is ready, and what to tell those who ask.

Nothing runs by itself: a check runs when somebody asks, and everybody who asks meanwhile, or within its `ttl`,
gets the same result.
"""

from asgi_obs.health.registry import HealthRegistry
from asgi_obs.health.result import CheckResult, HealthReport
from asgi_obs.health.state import Readiness

__all__ = ["CheckResult", "HealthRegistry", "HealthReport", "Readiness"]
