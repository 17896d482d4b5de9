"""`register_process_metrics`: what a registry needs to show this process, and which service it is."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry

from asgi_obs.metrics.catalogue import create
from asgi_obs.metrics.process import monitor
from asgi_obs.settings import Settings

__all__ = ["register_process_metrics"]


def register_process_metrics(registry: CollectorRegistry = REGISTRY, *, settings: Settings) -> None:
    """Make a registry show this process, and `service_info`; may be called again.

    The metrics of the process appear with their first values: `monitor.sample_if_stale()` sees to it before a scrape.

    Args:
        registry: Where they are scraped.
        settings: Name, version and environment of the service.

    Raises:
        ConfigurationError: The registry has `service_info` from another library.
    """
    create("service_info", registry).info(
        {"name": settings.service_name, "version": settings.version, "environment": settings.environment}
    )
    create("event_loop_stalls_total", registry)
    monitor.show_on(registry)
