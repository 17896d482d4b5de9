"""The catalogue: every metric is declared here once, and created from its declaration.

Code, documentation, dashboards, rules and runbooks are drawn from `CATALOGUE`. `create` makes the
`prometheus_client` metric of a name on a registry, or returns the one it has made before, so that a stack may be
built any number of times. What counts for the process as a whole (errors of this library, folded labels) exists
once and is shown by every registry that asks for it. `SHIPPED` are the metrics of this library; `declare` adds those of
its users, see `asgi_obs.metrics.custom`.
"""

from asgi_obs.metrics.catalogue.creation import CATALOGUE, SHIPPED, create, declare, process_wide
from asgi_obs.metrics.declaration import GUIDE_BUCKETS, Metric, MetricType

__all__ = [
    "CATALOGUE",
    "GUIDE_BUCKETS",
    "SHIPPED",
    "Metric",
    "MetricType",
    "create",
    "declare",
    "process_wide",
]
