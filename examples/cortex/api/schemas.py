"""What comes in and what goes out, and what is said of that which is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

NO_NUL = r"^[^\x00]*$"
"""PostgreSQL can store all characters but this one."""

Name = Annotated[str, Field(min_length=1, max_length=100, pattern=NO_NUL)]
Title = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL)]
Status = Literal["active", "archived"]
ExportFormat = Literal["json", "csv", "pdf"]


class Credentials(BaseModel):
    username: str = Field(max_length=100)
    password: str = Field(max_length=1_000)


class Token(BaseModel):
    access_token: str
    token_type: str = "bearer"  # noqa: S105 - no password


class NewWorkspace(BaseModel):
    name: Name


class WorkspaceChanges(BaseModel):
    name: Name | None = None
    status: Status | None = None


class NewConversation(BaseModel):
    title: Title


class ConversationChanges(BaseModel):
    title: Title | None = None
    status: Status | None = None


class NewMessage(BaseModel):
    text: str = Field(min_length=1, max_length=10_000, pattern=NO_NUL)


class _Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str


class WorkspaceOut(_Out):
    name: str
    status: Status


class ConversationOut(_Out):
    title: str
    status: Status
    summary: str | None


class MessageOut(_Out):
    author: str
    text: str
    created_at: datetime


def problems(errors: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The answer to input that is wrong. It does not repeat the input, which may be a password, or no valid Unicode."""
    return {"detail": [{key: error[key] for key in ("type", "loc", "msg")} for error in errors]}
