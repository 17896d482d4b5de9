"""Histogram buckets: the presets, and what a list of your own must look like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from asgi_obs.errors import ConfigurationError
from asgi_obs.metrics.catalogue import GUIDE_BUCKETS

__all__ = ["PRESETS", "buckets_of"]

PRESETS: Final[dict[str, tuple[float, ...]]] = {
    "guide": GUIDE_BUCKETS,
    "fast": (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0),
    "slow": (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
}
"""Upper bounds in seconds: `guide` for most services, `fast` for answers below 10 ms, `slow` for reports and models."""


def buckets_of(option: str | Sequence[float]) -> tuple[float, ...]:
    """The upper bounds that an option `buckets` stands for.

    Args:
        option: The name of a preset, or the bounds in seconds.

    Raises:
        ConfigurationError: No such preset; or the bounds are not finite, positive and ascending.
    """
    if isinstance(option, str):
        if option not in PRESETS:
            raise ConfigurationError("buckets", option, f"one of {', '.join(PRESETS)}, or bounds in seconds")
        return PRESETS[option]
    try:
        bounds = tuple(float(bound) for bound in option)
    except (TypeError, ValueError):
        bounds = ()
    ascending = all(low < high for low, high in zip((0.0, *bounds), bounds, strict=False))
    if not bounds or not ascending or math.isinf(bounds[-1]):
        raise ConfigurationError("buckets", option, "finite, positive, ascending seconds (+Inf is added)")
    return bounds
