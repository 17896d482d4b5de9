"""Ready-made checks: build one, and add it to a `HealthRegistry`.

    registry.add("database", DatabaseCheck(engine))

None needs what it does not check: SQLAlchemy, httpx and Redis are imported by nobody who does not use them. A check
that is `local` asks about this process alone and waits for nothing, so it may decide about liveness.

==================  =========================================================  =====
check               asks                                                       local
==================  =========================================================  =====
DatabaseCheck       a database, through the application's own pool             no
DiskCheck           how much room is left on a disk                            no
EventLoopLagCheck   how late the event loop is                                 yes
Heartbeat           whether a worker loop of the application still goes round  yes
HttpCheck           another service's `/health`                                no
MemoryCheck         how much memory this process may still use                 yes
RedisCheck          Redis, through the application's own client                no
TcpCheck            whether a port accepts connections                         no
TlsCheck            for how long a certificate is valid                        no
==================  =========================================================  =====
"""

from asgi_obs.health.checks.database import DatabaseCheck
from asgi_obs.health.checks.disk import DiskCheck
from asgi_obs.health.checks.event_loop import EventLoopLagCheck
from asgi_obs.health.checks.heartbeat import Heartbeat
from asgi_obs.health.checks.http import HttpCheck
from asgi_obs.health.checks.memory import MemoryCheck
from asgi_obs.health.checks.redis import RedisCheck
from asgi_obs.health.checks.tcp import TcpCheck
from asgi_obs.health.checks.tls import TlsCheck

__all__ = [
    "DatabaseCheck",
    "DiskCheck",
    "EventLoopLagCheck",
    "Heartbeat",
    "HttpCheck",
    "MemoryCheck",
    "RedisCheck",
    "TcpCheck",
    "TlsCheck",
]
