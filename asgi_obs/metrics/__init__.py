"""Prometheus metrics: what is declared, how labels stay bounded, and the middleware that moves them.

catalogue   every metric there is: name, type, labels, unit, help, buckets; and its creation on a registry
buckets     the bucket presets and what a bucket list must look like
labels      the cap on the series of a family; the values of the labels method, endpoint and of your own
http        MetricsMiddleware, and the http_* families
websocket   the websocket_* families
sse         the sse_* families, and the parser that counts events
process     process_cpu_usage_percent, process_memory_usage_bytes and service_info, read when scraped
"""

from asgi_obs.metrics.http import MetricsMiddleware
from asgi_obs.metrics.process import register_process_metrics

__all__ = ["MetricsMiddleware", "register_process_metrics"]
