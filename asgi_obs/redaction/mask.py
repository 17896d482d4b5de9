"""What stands in the place of what was redacted."""

from __future__ import annotations

from typing import Final

__all__ = ["MASK"]

MASK: Final = "******"
