"""Output profiles: a line of our schema -> the same line in the schema of others.

`ecs` is the Elastic Common Schema, `otel` the JSON of OpenTelemetry's protocol, `gcp` what Google Cloud Logging reads.
Nothing of a line is lost: what a schema has no place for keeps its name. A profile costs 5 to 10 µs a line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from asgi_obs.logs.profiles import ecs, gcp, otel
from asgi_obs.logs.profiles.base import Profile
from asgi_obs.settings import Settings

__all__ = ["PROFILES", "Profile", "make_profile"]

PROFILES: Final[dict[str, Callable[[Settings], Profile]]] = {
    "ecs": lambda _settings: ecs.profile,
    "otel": lambda _settings: otel.profile,
    "gcp": lambda settings: gcp.CloudLogging(settings.google_cloud_project),
}
"""What makes a profile, by the name in `LOG_PROFILE`."""


def make_profile(settings: Settings) -> Profile | None:
    """The profile of the settings; None for our own schema."""
    make = PROFILES.get(settings.log_profile)
    return None if make is None else make(settings)
