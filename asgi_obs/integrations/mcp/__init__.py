"""The Model Context Protocol: calls of tools, on the side that makes them and on the side that serves them.

Works with the `mcp` package, 1.19 and later as well as 2.x, and loads none of it: what it is given is told by what it
has. `observe_mcp_client` wraps a session, `observe_mcp_server` changes a server in place.
"""

from asgi_obs.integrations.mcp.client import ObservedMcpClient, observe_mcp_client
from asgi_obs.integrations.mcp.server import observe_mcp_server

__all__ = ["ObservedMcpClient", "observe_mcp_client", "observe_mcp_server"]
