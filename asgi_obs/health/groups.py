"""Groups of checks: those of readiness and liveness, and any others by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from asgi_obs.errors import ConfigurationError
from asgi_obs.health.runner import CheckRunner

__all__ = ["LIVENESS", "READINESS", "Groups", "require_name"]

READINESS: Final = "readiness"
"""The group of the checks that decide whether the service gets requests."""

LIVENESS: Final = "liveness"
"""The group of the checks that decide whether the process goes on."""

RESERVED: Final = (READINESS, LIVENESS, "ready", "live")
"""Names that no other group has: some are paths beside those of the groups."""

_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


def require_name(name: object) -> None:
    """Refuse a name that a check or a group cannot have.

    Raises:
        ConfigurationError: It is not 1 to 100 characters of `A-Za-z0-9_.:-`.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ConfigurationError("name", name, "1 to 100 characters of A-Za-z0-9_.:-")


class Groups:
    """Finds the checks of a group.

    Args:
        runners: All checks, by name; more may come.
    """

    def __init__(self, runners: Mapping[str, CheckRunner]) -> None:
        self._runners = runners
        self._members: dict[str, tuple[str, ...]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The groups but for the reserved ones."""
        return tuple(self._members)

    def add(self, name: str, members: Iterable[str]) -> None:
        """Add a group.

        Raises:
            ConfigurationError: The name cannot be one or is taken, or there are no members.
        """
        require_name(name)
        if name in RESERVED or name in self._members:
            raise ConfigurationError("name", name, f"a name that no other group has, none of {', '.join(RESERVED)}")
        listed = () if isinstance(members, str) else tuple(members)
        if not listed:
            raise ConfigurationError("members", members, "the names of some checks")
        self._members[name] = listed

    def validate(self) -> None:
        """Look whether every member is there.

        Raises:
            ConfigurationError: One is not.
        """
        for name in list(self._members):
            self.runners(name)

    def runners(self, name: str | None) -> list[CheckRunner]:
        """The checks of a group; all of them for None.

        Raises:
            ConfigurationError: There is no such group, or it has an unknown member.
        """
        runners = list(self._runners.values())
        if name is None:
            return runners
        if name == READINESS:
            return [runner for runner in runners if runner.options.readiness]
        if name == LIVENESS:
            return [runner for runner in runners if runner.options.liveness]
        if name not in self._members:
            raise ConfigurationError("group", name, f"one of {', '.join((READINESS, LIVENESS, *self._members))}")
        return [self._member(name, member) for member in self._members[name]]

    def _member(self, group: str, member: str) -> CheckRunner:
        if member not in self._runners:
            allowed = f"the name of a check: {', '.join(self._runners) or 'there is none'}"
            raise ConfigurationError(f"member of group {group}", member, allowed)
        return self._runners[member]
