import math

import pytest
from prometheus_client import Histogram

from asgi_obs.errors import ConfigurationError
from asgi_obs.metrics.buckets import PRESETS, buckets_of


def test_the_guides_buckets_are_a_preset() -> None:
    assert buckets_of("guide") == (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_itself_a_valid_list_of_bounds(name: str) -> None:
    assert buckets_of(PRESETS[name]) == buckets_of(name)


def test_bounds_of_your_own_are_taken_as_seconds() -> None:
    assert buckets_of([1, 2.5]) == (1.0, 2.5)


def test_an_unknown_preset_is_rejected_with_the_names_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match="guide, fast, slow"):
        buckets_of("fine")


@pytest.mark.parametrize(
    "bounds",
    [[], [0, 1], [-1, 1], [2, 1], [1, 1], [1, math.inf], [math.nan], [1, math.nan], ["a"], [None], None, 5],
    ids=str,
)
def test_bounds_that_cannot_be_buckets_are_rejected(bounds: object) -> None:
    with pytest.raises(ConfigurationError, match="buckets"):
        buckets_of(bounds)  # type: ignore[arg-type]


def test_the_default_bounds_of_prometheus_client_are_accepted_without_infinity() -> None:
    assert buckets_of(Histogram.DEFAULT_BUCKETS[:-1]) == Histogram.DEFAULT_BUCKETS[:-1]
