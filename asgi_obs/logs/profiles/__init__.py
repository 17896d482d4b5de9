"""Output profiles: a line of our schema -> the same line in the schema of others.

`ecs` is the Elastic Common Schema, `otel` the JSON of OpenTelemetry's protocol, `gcp` what Google Cloud Logging reads.
Nothing of a line is lost: what a schema has no place for keeps its name. A profile costs 5 to 10 µs a line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from asgi_obs.logs.profiles.base import Profile
from asgi_obs.logs.profiles.ecs import profile as ecs
from asgi_obs.logs.profiles.gcp import CloudLogging
from asgi_obs.logs.profiles.otel import profile as otel
from asgi_obs.settings import Settings

__all__ = ["PROFILES", "Profile", "make_profile"]

PROFILES: Final[dict[str, Callable[[Settings], Profile]]] = {
    "ecs": lambda _settings: ecs,
    "otel": lambda _settings: otel,
    "gcp": lambda settings: CloudLogging(settings.google_cloud_project),
}
"""What makes a profile, by the name in `LOG_PROFILE`."""


def make_profile(settings: Settings) -> Profile | None:
    """The profile of the settings; None for our own schema."""
    make = PROFILES.get(settings.log_profile)
    return None if make is None else make(settings)
