"""`uvicorn examples.cortex.cognition.main:app`."""

from examples.cortex.cognition.app import create_app

app = create_app()
