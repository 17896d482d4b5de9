"""What never leaves the process in a log line or a span: by key, by looks, by your own patterns."""

from asgi_obs.redaction.mask import MASK
from asgi_obs.redaction.redactor import Redactor, redact_sensitive_data, redactor_for, redactor_of

__all__ = ["MASK", "Redactor", "redact_sensitive_data", "redactor_for", "redactor_of"]
