"""Prometheus metrics: what is declared, how labels stay bounded, and the middleware that moves them.

catalogue   every metric there is: name, type, labels, unit, help, buckets; and its creation on a registry
buckets     the bucket presets and what a bucket list must look like
labels      the cap on the series of a family; the values of the labels method, endpoint and of your own
http        MetricsMiddleware, and the http_* families
websocket   the websocket_* families
sse         the sse_* families, and the parser that counts events
custom      counters, gauges and histograms of your own
operations  OperationMetrics: the operations of a part of a service
tracking    when one of them starts and ends: blocks, functions of every kind
process     the process itself: CPU, memory, event loops, threads, garbage; and service_info
multiprocess  right numbers when several processes serve one port
"""

from asgi_obs.metrics.http import MetricsMiddleware
from asgi_obs.metrics.operations import OperationMetrics
from asgi_obs.metrics.process import register_process_metrics

__all__ = ["MetricsMiddleware", "OperationMetrics", "register_process_metrics"]
