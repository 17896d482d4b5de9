"""The API service: who may do what, workspaces, conversations and messages, and an assistant that answers them.

`app.py` puts it together; `routes.py`, `live.py` and `admin.py` are its HTTP side, with the `schemas.py` of what they
take and give; `workspaces.py` and `conversations.py` do the work, on the tables of `store.py`; `assistant.py` hears of
new messages on the bus of `events.py` and asks the other two services, through `clients.py`, for what to say.
"""
