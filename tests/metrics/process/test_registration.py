"""What a registry needs to show the process."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Info, generate_latest

from asgi_obs.errors import ConfigurationError
from asgi_obs.metrics.process import monitor, register_process_metrics
from asgi_obs.settings import Settings

SETTINGS = Settings(service_name="cortex", version="1.2.3", environment="testing")


def test_the_registry_shows_this_process_and_its_service(registry: CollectorRegistry) -> None:
    register_process_metrics(registry, settings=SETTINGS)
    monitor.sample_if_stale()
    text = generate_latest(registry).decode()

    assert 'service_info{environment="testing",name="cortex",version="1.2.3"} 1.0\n' in text
    assert "# TYPE event_loop_stalls_total counter\n" in text
    assert (registry.get_sample_value("process_cpu_usage_percent") or 0) > 0
    assert (registry.get_sample_value("process_memory_usage_bytes") or 0) > 1_000_000
    assert (registry.get_sample_value("process_open_file_descriptors") or 0) > 0
    assert (registry.get_sample_value("process_max_file_descriptors") or 0) > 0


def test_registering_again_names_the_service_anew(registry: CollectorRegistry) -> None:
    register_process_metrics(registry, settings=SETTINGS)
    register_process_metrics(registry, settings=Settings(service_name="cortex", version="1.2.4", environment="testing"))
    labels = {"environment": "testing", "name": "cortex"}

    assert registry.get_sample_value("service_info", {**labels, "version": "1.2.4"}) == 1.0
    assert registry.get_sample_value("service_info", {**labels, "version": "1.2.3"}) is None


def test_a_registry_with_the_metric_of_another_library_is_refused(registry: CollectorRegistry) -> None:
    Info("service", "Theirs.", registry=registry)

    with pytest.raises(ConfigurationError, match="service_info"):
        register_process_metrics(registry, settings=SETTINGS)
