"""Everything around the three services: starts them, uses them, and tells what they say of it.

It knows nothing of them but their URLs, their logs, their metrics and their spans.
"""
