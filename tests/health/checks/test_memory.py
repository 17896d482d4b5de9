"""Memory of this process."""

from __future__ import annotations

import psutil
import pytest

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.checks import MemoryCheck
from asgi_obs.health.checks.cgroup import memory_limits
from asgi_obs.health.checks.sizes import size_text

PLENTY = 2**60


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"limit_bytes": PLENTY}, "healthy"),
        ({"limit_bytes": PLENTY, "degraded": 0}, "degraded"),
        ({"limit_bytes": PLENTY, "degraded": 0, "unhealthy": 0}, "unhealthy"),
        ({"limit_bytes": 1}, "unhealthy"),
    ],
)
def test_it_compares_what_is_used_with_the_limit(options, status) -> None:
    assert MemoryCheck(**options)().status == status


def test_it_says_how_much_is_used() -> None:
    assert MemoryCheck(limit_bytes=PLENTY)().message.endswith(" of 1 EiB used")


def test_the_limit_is_that_of_the_container_or_the_machine() -> None:
    limit = min([psutil.virtual_memory().total, *memory_limits()])
    assert MemoryCheck()().message.endswith(f" of {size_text(limit)} used")


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"limit_bytes": 0}, "limit_bytes"),
        ({"limit_bytes": 1.5}, "limit_bytes"),
        ({"limit_bytes": True}, "limit_bytes"),
        ({"degraded": -1}, "degraded"),
        ({"unhealthy": 0.5}, "unhealthy"),
    ],
)
def test_wrong_options_are_refused(options, wrong) -> None:
    with pytest.raises(ConfigurationError) as raised:
        MemoryCheck(**options)
    assert raised.value.option == wrong
