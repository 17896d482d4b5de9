"""The settings of the ops surface, and of how the service comes and goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from asgi_obs.settings.base import CheckedSettings
from asgi_obs.settings.environment import variable
from asgi_obs.settings.parse import flag, is_network, is_number, is_prefix, is_whole, names

__all__ = ["ENDPOINTS", "OpsSettings"]

ENDPOINTS: Final = ("metrics", "health", "ready", "live", "info", "loggers", "tasks")

_ENDPOINTS: Final = f"some of {', '.join(ENDPOINTS)}, separated by commas"
_NETWORKS: Final = "networks such as 10.0.0.0/8, separated by commas"
_PORT: Final = "a port from 1 to 65535, or 0 for none"
_PREFIX: Final = "the beginning of a path such as /internal, with no slash at its end, or nothing"
_LONGEST: Final = 3600
_SECONDS: Final = f"a number of seconds from 0 to {_LONGEST}"
_CREDENTIAL: Final = "printable ASCII without white space at its ends"


@dataclass(frozen=True, kw_only=True)
class OpsSettings(CheckedSettings):
    """What the environment says of the ops paths, and of start and end.

    Attributes:
        build: `BUILD`, which build of the version this is, such as a commit. Shown by `/info`.
        ops_token: `OPS_TOKEN`, what a caller of the ops paths has to send as a bearer token. Without it, and without
            the next two, anybody may read them, and there is no runtime control.
        ops_username: `OPS_USERNAME`, for those who send no token but a name and a password.
        ops_password: `OPS_PASSWORD`.
        ops_allowed_networks: `OPS_ALLOWED_NETWORKS`, from where the ops paths may be read; beside the credential, not
            in its place. Default everywhere.
        ops_endpoints: `OPS_ENDPOINTS`, which of `ENDPOINTS` there are. Default all.
        ops_prefix: `OPS_PREFIX`, what the ops paths begin with. Default nothing.
        ops_port: `OPS_PORT`, a port of its own for the ops paths, in this process; only the bare probes are served on
            the application's then. Default 0: none.
        ops_host: `OPS_HOST`, the address of this port. Default 127.0.0.1: set 0.0.0.0 in a container.
        probe_aliases: `OPS_PROBE_ALIASES`, whether `/livez` and `/readyz` are served too. Default false.
        drain_seconds: `DRAIN_SECONDS`, how long readiness fails before SIGTERM, or the end of the lifespan, goes on to
            the server and the application. Default 0.
        stall_seconds: `STALL_SECONDS`: what blocks the event loop for longer is logged with its stack. Default 1;
            0 for never.
    """

    build: str = variable("BUILD", "", str)
    ops_token: str = variable("OPS_TOKEN", "", str, secret=True)
    ops_username: str = variable("OPS_USERNAME", "", str)
    ops_password: str = variable("OPS_PASSWORD", "", str, secret=True)
    ops_allowed_networks: tuple[str, ...] = variable("OPS_ALLOWED_NETWORKS", "", names, _NETWORKS)
    ops_endpoints: tuple[str, ...] = variable("OPS_ENDPOINTS", ",".join(ENDPOINTS), names, _ENDPOINTS)
    ops_prefix: str = variable("OPS_PREFIX", "", str)
    ops_port: int = variable("OPS_PORT", "0", int, _PORT)
    ops_host: str = variable("OPS_HOST", "127.0.0.1", str)
    probe_aliases: bool = variable("OPS_PROBE_ALIASES", "false", flag, "true or false")
    drain_seconds: float = variable("DRAIN_SECONDS", "0", float, _SECONDS)
    stall_seconds: float = variable("STALL_SECONDS", "1", float, _SECONDS)

    def _check_ops(self) -> None:
        for name in ("ops_token", "ops_username", "ops_password"):
            value = getattr(self, name)
            usable = isinstance(value, str) and value.isascii() and value.isprintable() and value == value.strip()
            self._require(name, usable or value == "", _CREDENTIAL)
        self._require("ops_username", bool(self.ops_password) or not self.ops_username, "a name with OPS_PASSWORD set")
        self._require("ops_username", ":" not in self.ops_username, "a name without a colon (RFC 7617)")
        self._require("ops_password", bool(self.ops_username) or not self.ops_password, "nothing without OPS_USERNAME")
        self._require("ops_allowed_networks", all(map(is_network, self.ops_allowed_networks)), _NETWORKS)
        self._require("ops_endpoints", set(self.ops_endpoints) <= set(ENDPOINTS), _ENDPOINTS)
        self._require("ops_prefix", is_prefix(self.ops_prefix), _PREFIX)
        self._require("ops_port", is_whole(self.ops_port, 0, 65_535), _PORT)
        self._require("ops_host", isinstance(self.ops_host, str) and bool(self.ops_host), "an address or a host name")
        self._require("probe_aliases", isinstance(self.probe_aliases, bool), "true or false")
        for name in ("drain_seconds", "stall_seconds"):
            self._require(name, is_number(getattr(self, name), _LONGEST), _SECONDS)
