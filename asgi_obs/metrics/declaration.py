"""`Metric`: what is said of a metric before it is made, and what can be said."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from asgi_obs.errors import ConfigurationError

__all__ = [
    "BACKGROUND_BUCKETS",
    "COUNT_BUCKETS",
    "DATABASE_BUCKETS",
    "GUIDE_BUCKETS",
    "LONG_BUCKETS",
    "NAME",
    "PAUSE_BUCKETS",
    "GaugeMode",
    "Metric",
    "MetricType",
    "require_valid",
]

NAME: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
"""What a metric or a label may be called: https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels.
Colons are for recording rules, two underscores in front are for Prometheus itself."""

_IN_NAMES: Final = "letters, digits and _, with no digit and no __ at the beginning"

GUIDE_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds; for requests that take from some milliseconds to some seconds."""

LONG_BUCKETS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Seconds; for connections that stay open, from a page view to a day."""

BACKGROUND_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)
"""Seconds; for background tasks."""

DATABASE_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds; for what a database does for one statement, or for one request."""

COUNT_BUCKETS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
"""For how many times something was done in one request."""

PAUSE_BUCKETS: Final = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5)
"""Seconds; for what stops the whole process."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""One alone would make the whole scrape fail."""

MetricType: TypeAlias = Literal["counter", "gauge", "histogram", "info"]

GaugeMode: TypeAlias = Literal["livesum", "livemax", "livemin", "livemostrecent"]
"""What a gauge shows when several workers share one service: of those that live, the sum, the most, the least, or
what was set last."""


@dataclass(frozen=True)
class Metric:
    """The declaration of one metric.

    Attributes:
        name: The name as it is scraped, with `_total` or `_info`.
        type: counter, gauge, histogram or info.
        labels: The names of its labels, in order; of an info, its keys.
        unit: The base unit, which the name ends in; empty if it is a plain number.
        help: What it says, in a sentence.
        buckets: The upper bounds of a histogram, in its unit.
        process_wide: Whether there is one for the process, shared by all registries.
        mode: What a gauge shows of several workers.
        hot: Whether it moves on every request or message, so that its cost counts.
    """

    name: str
    type: MetricType
    labels: tuple[str, ...]
    unit: str
    help: str
    buckets: tuple[float, ...] = ()
    process_wide: bool = False
    mode: GaugeMode = "livesum"
    hot: bool = False


def require_valid(metric: Metric) -> None:
    """See that a metric can be scraped under the name that it is declared with.

    Raises:
        ConfigurationError: It cannot.
    """
    name, labels = metric.name, metric.labels
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        raise ConfigurationError("name", name, _IN_NAMES)
    if metric.type == "counter" and not name.endswith("_total"):
        raise ConfigurationError("name", name, f"{name}_total, for it is a counter")
    if not isinstance(metric.help, str) or not metric.help.strip() or _SURROGATE.search(metric.help):
        raise ConfigurationError("help", metric.help, "a sentence")
    valid = all(isinstance(label, str) and NAME.fullmatch(label) and label != "le" for label in labels)
    if not valid or len(set(labels)) < len(labels):
        raise ConfigurationError("labels", labels, f"different names of {_IN_NAMES}; none is le")
    _require_unit(metric)
    if metric.mode not in get_args(GaugeMode):
        raise ConfigurationError("mode", metric.mode, f"one of {', '.join(get_args(GaugeMode))}")


def _require_unit(metric: Metric) -> None:
    # `prometheus_client` would put it there.
    measured = metric.name.removesuffix("_total") if metric.type == "counter" else metric.name
    if not isinstance(metric.unit, str) or not measured.endswith(f"_{metric.unit}" if metric.unit else ""):
        raise ConfigurationError("unit", metric.unit, f"what the name {metric.name} ends in, or nothing")
