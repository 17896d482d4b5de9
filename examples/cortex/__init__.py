"""Cortex: a chat service on a real server and a real database, observed by asgi_obs.

`python -m examples.cortex` starts the service, drives it for some seconds, and prints the whole story of one
request. The service is `api.py` (with `auth`, `service`, `store`, `events`, `admin`); `serve.py` is the process that
runs it; the rest drives it from outside and knows nothing but its URL, its log, its metrics and its spans.
"""
