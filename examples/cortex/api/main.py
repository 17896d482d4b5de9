"""The API service as a module: `uvicorn --no-access-log examples.cortex.api.main:app`.

Uvicorn's own access log would have the token of every WebSocket in it, as part of the URL. The line that asgi_obs logs
for each request replaces it, and hides tokens.
"""

from __future__ import annotations

from examples.cortex.api.app import create_app

app = create_app()
