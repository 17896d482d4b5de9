"""The house's layering: imports run downward only, and an import of the package stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import asgi_obs

PACKAGE = Path(asgi_obs.__file__).parent

# From the bottom up. Rooms of one floor may know each other only where they stand in one set; those of different
# sets stand behind a bar.
FLOORS = (
    ({"types", "errors"},),
    ({"routes", "classify", "redaction", "settings", "engines"},),
    ({"exchange"},),
    ({"correlation"}, {"logs"}, {"metrics"}),
    ({"tracing"}, {"health"}, {"deploy"}),
    ({"integrations"}, {"ops"}),
    ({"stack"},),
    ({"cli"},),
    ({"asgi_obs"}, {"testing"}),
)
PLACES = {
    room: (floor, number) for floor, sides in enumerate(FLOORS) for number, side in enumerate(sides) for room in side
}
CATALOGUE = "asgi_obs.metrics.catalogue"
"""Pure declarations: everybody may import them."""

HEAVY = (
    "fastapi",
    "uvicorn",
    "httpx",
    "httpx2",
    "sqlalchemy",
    "sqlglot",
    "opentelemetry.sdk",
    "opentelemetry.instrumentation",
    "opentelemetry.exporter",
    "aiohttp",
    "mcp",
    "typer",
    "click",
    "rich",
    "yaml",
    "structlog",
    "loguru",
    "redis",
    "gunicorn",
    "hypercorn",
)


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path):
    parts = ("asgi_obs", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(part for part in parts if part != "__init__")


def room_of(module):
    """The first part below the package; the package itself is the roof."""
    return module.split(".")[1] if "." in module else module


class Imports(ast.NodeVisitor):
    """Every import of a module, but for those under `if TYPE_CHECKING`."""

    def __init__(self, package):
        self.package = package
        self.found = set()

    def visit_If(self, node):
        if ast.unparse(node.test) not in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for child in node.body:
                self.visit(child)
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node):
        self.found.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node):
        up = self.package.split(".")[: -(node.level - 1) or None] if node.level else []
        base = ".".join([*up, *filter(None, [node.module])])
        for alias in node.names:
            submodule = PACKAGE.parent.joinpath(*base.split("."), alias.name)
            is_module = submodule.with_suffix(".py").exists() or submodule.is_dir()
            self.found.add(f"{base}.{alias.name}" if is_module else base)


def imports_of(source, package):
    visitor = Imports(package)
    visitor.visit(ast.parse(source))
    return {name for name in visitor.found if name.split(".")[0] == "asgi_obs"}


def package_of(path):
    name = name_of(path)
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


def allowed(importer, imported):
    if imported == CATALOGUE:
        return True
    (floor, side), (their_floor, their_side) = PLACES[room_of(importer)], PLACES[room_of(imported)]
    return their_floor < floor or (their_floor, their_side) == (floor, side)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_imports_only_from_the_floors_below_it(path):
    name = name_of(path)

    wrong = {imported for imported in imports_of(path.read_text(), package_of(path)) if not allowed(name, imported)}

    assert wrong == set()


def test_every_room_has_its_place():
    rooms = {room_of(name_of(path)) for path in modules()}

    assert rooms <= PLACES.keys()


@pytest.mark.parametrize(
    ("importer", "imported", "expected"),
    [
        ("asgi_obs.exchange.base", "asgi_obs.routes", True),
        ("asgi_obs.routes", "asgi_obs.exchange", False),
        ("asgi_obs.exchange.base", "asgi_obs.exchange.hooks", True),
        ("asgi_obs.logs.setup", "asgi_obs.metrics.http", False),
        ("asgi_obs.logs.setup", "asgi_obs.metrics.catalogue", True),
        ("asgi_obs.health.registry", "asgi_obs.tracing", False),
        ("asgi_obs.errors", "asgi_obs.types", True),
        ("asgi_obs", "asgi_obs.stack", True),
        ("asgi_obs.stack", "asgi_obs", False),
    ],
)
def test_the_rule_itself(importer, imported, expected):
    assert allowed(importer, imported) is expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import asgi_obs.logs", {"asgi_obs.logs"}),
        ("import os, asgi_obs", {"asgi_obs"}),
        ("from asgi_obs.errors import report", {"asgi_obs.errors"}),
        ("from asgi_obs import errors", {"asgi_obs.errors"}),
        ("from asgi_obs import exchange", {"asgi_obs.exchange"}),
        ("from . import hooks", {"asgi_obs.exchange.hooks"}),
        ("from .hooks import call", {"asgi_obs.exchange.hooks"}),
        ("from ..errors import report", {"asgi_obs.errors"}),
        ("def f():\n    import asgi_obs.stack", {"asgi_obs.stack"}),
        ("if TYPE_CHECKING:\n    import asgi_obs.stack\nelse:\n    import asgi_obs.logs", {"asgi_obs.logs"}),
        ("if sys.platform == 'win32':\n    import asgi_obs.stack", {"asgi_obs.stack"}),
    ],
)
def test_every_way_to_import_is_seen(source, expected):
    assert imports_of(source, "asgi_obs.exchange") == expected


def test_importing_the_package_loads_no_optional_dependency():
    program = "import asgi_obs, sys; print(*sys.modules, sep='\\n')"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())

    assert "asgi_obs.exchange" in loaded
    assert loaded & set(HEAVY) == set()
