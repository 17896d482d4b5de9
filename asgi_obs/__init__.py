"""asgi_obs: one exchange, every signal."""

from asgi_obs.correlation import CorrelationIdMiddleware, get_correlation_id
from asgi_obs.exchange import current_exchange
from asgi_obs.health import CheckResult, HealthRegistry
from asgi_obs.logs import (
    LogContext,
    RequestLoggingMiddleware,
    StructuredLogFormatter,
    audit_log,
    bind,
    get_logger,
    setup_logging,
)
from asgi_obs.metrics import MetricsMiddleware, OperationMetrics
from asgi_obs.ops import OpsApp, mount_ops
from asgi_obs.redaction import redact_sensitive_data
from asgi_obs.settings import Settings
from asgi_obs.stack import Observability, observe
from asgi_obs.tracing import TracingMiddleware, setup_tracing

__all__ = [
    "CheckResult",
    "CorrelationIdMiddleware",
    "HealthRegistry",
    "LogContext",
    "MetricsMiddleware",
    "Observability",
    "OperationMetrics",
    "OpsApp",
    "RequestLoggingMiddleware",
    "Settings",
    "StructuredLogFormatter",
    "TracingMiddleware",
    "audit_log",
    "bind",
    "current_exchange",
    "get_correlation_id",
    "get_logger",
    "mount_ops",
    "observe",
    "redact_sensitive_data",
    "setup_logging",
    "setup_tracing",
]
