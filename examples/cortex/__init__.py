"""Cortex: a chat service of three processes, with databases, an event bus, HTTP and MCP, observed by asgi_obs.

`python -m examples.cortex` starts them, drives them for some seconds, and prints the whole story of one request.

- `api` is what users talk to; its assistant asks the other two for what to reply.
- `memory` keeps what they have said, behind HTTP.
- `cognition` finds what of that matters to a question, behind MCP.
- `serve.py` is the process that runs one of them, `database.py` the engine of those that have a database.
- `demo` does the starting, driving and telling.
"""
