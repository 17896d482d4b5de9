"""Settings: every environment variable, validated, printable.

What is wrong is said at start-up: the variable, its value, and what is allowed.
"""

from asgi_obs.settings.ops import ENDPOINTS
from asgi_obs.settings.settings import (
    ALWAYS_SENSITIVE,
    ENVIRONMENTS,
    KNOWN_METHODS,
    LOG_FORMATS,
    LOG_LEVELS,
    LOG_PROFILES,
    TRACE_RESPONSE_HEADERS,
    Settings,
)

__all__ = [
    "ALWAYS_SENSITIVE",
    "ENDPOINTS",
    "ENVIRONMENTS",
    "KNOWN_METHODS",
    "LOG_FORMATS",
    "LOG_LEVELS",
    "LOG_PROFILES",
    "TRACE_RESPONSE_HEADERS",
    "Settings",
]
