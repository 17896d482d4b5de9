"""The cognition service: finds what matters to a question, as a tool of MCP."""
