"""Groups of checks."""

from __future__ import annotations

import pytest

from asgi_obs.errors import ConfigurationError
from asgi_obs.health import HealthRegistry

pytestmark = pytest.mark.anyio


def healthy() -> bool:
    return True


def local() -> bool:
    return True


local.local = True  # type: ignore[attr-defined]


def with_checks(*names: str) -> HealthRegistry:
    health = HealthRegistry()
    for name in names:
        health.add(name, healthy)
    return health


async def test_a_group_has_its_members_only_and_in_its_order() -> None:
    health = with_checks("database", "cache", "queue")
    health.group("storage", ["queue", "database"])
    assert list((await health.run("storage")).checks) == ["queue", "database"]
    assert health.groups == ("storage",)


async def test_readiness_and_liveness_are_groups_too() -> None:
    health = with_checks("database")
    health.add("heartbeat", local, readiness=False, liveness=True)
    assert list((await health.run("readiness")).checks) == ["database"]
    assert list((await health.run("liveness")).checks) == ["heartbeat"]
    assert health.groups == ()


def test_members_may_be_added_after_the_group() -> None:
    health = HealthRegistry()
    health.group("storage", ["database"])
    with pytest.raises(ConfigurationError, match="there is none"):
        health.validate()
    health.add("database", healthy)
    health.validate()


def test_an_unknown_member_is_named_at_start_up_with_the_checks_there_are() -> None:
    health = with_checks("database", "cache")
    health.group("storage", ["database", "cahce"])
    with pytest.raises(ConfigurationError) as caught:
        health.validate()
    assert str(caught.value) == (
        "member of group storage='cahce' is not valid: expected the name of a check: database, cache"
    )


async def test_a_group_that_is_not_complete_is_never_healthy_by_mistake() -> None:
    health = with_checks("database")
    health.group("storage", ["cache"])
    with pytest.raises(ConfigurationError, match="cache"):
        await health.run("storage")


async def test_an_unknown_group_is_refused() -> None:
    health = with_checks("database")
    health.group("storage", ["database"])
    with pytest.raises(ConfigurationError, match="one of readiness, liveness, storage"):
        await health.run("storeage")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 101, None, "readiness", "liveness", "ready", "live"])
def test_a_name_that_cannot_be_one_is_refused(name) -> None:
    with pytest.raises(ConfigurationError, match="name="):
        with_checks("database").group(name, ["database"])


def test_a_name_is_given_once() -> None:
    health = with_checks("database")
    health.group("storage", ["database"])
    with pytest.raises(ConfigurationError, match="a name that no other group has"):
        health.group("storage", ["database"])


@pytest.mark.parametrize("members", [[], "database"])
def test_a_group_has_members(members) -> None:
    with pytest.raises(ConfigurationError, match="members="):
        with_checks("database").group("storage", members)
