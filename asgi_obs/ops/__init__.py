"""The ops surface: metrics and health over HTTP, as an ASGI application of its own or in front of another."""

from asgi_obs.ops.app import OpsApp
from asgi_obs.ops.mount import OpsMount, mount_ops

__all__ = ["OpsApp", "OpsMount", "mount_ops"]
