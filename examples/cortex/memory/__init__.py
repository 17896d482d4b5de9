"""The memory service: keeps what users have said, and tells it again."""
