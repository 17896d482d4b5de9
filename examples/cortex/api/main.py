"""The API service as a module: `uvicorn examples.cortex.api.main:app`."""

from __future__ import annotations

from examples.cortex.api.app import create_app

app = create_app()
