"""`uvicorn examples.cortex.memory.main:app`."""

from examples.cortex.memory.app import create_app

app = create_app()
