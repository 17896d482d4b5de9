"""What all panels are made of."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

COLOURS = {"api": "cyan", "memory": "magenta", "cognition": "yellow"}


def panel(title: str, content: RenderableType, colour: str = "none") -> RenderableType:
    """Something with a title above it."""
    return Group(Rule(title, align="left", style=colour), Padding(content, (0, 2)))


def table_of(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table without lines; the columns in `right` are aligned to the right."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def label(name: str) -> Text:
    """The name of a service, in its colour."""
    return Text(name, style=COLOURS[name])


def short(text: str) -> str:
    """With long routes made short."""
    return text.replace("/api/workspaces/{workspace_id}/conversations", "…/conversations")
