"""Every code block of README and docs runs as it stands, and every link leads somewhere."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from asgi_obs.metrics.catalogue import SHIPPED
from asgi_obs.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(match.group(1), id=f"{page.relative_to(ROOT)}:{page.read_text()[: match.start()].count(chr(10)) + 1}")
    for page in PAGES
    for match in re.finditer(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
]


@pytest.fixture
def logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)


# The names of the guide stand in the documentation and in the examples, each time declared anew.
@pytest.mark.usefixtures("logging_restored", "only_shipped")
@pytest.mark.parametrize("code", BLOCKS)
def test_a_code_block_runs_as_it_stands(code: str) -> None:
    namespace: dict[str, object] = {"__name__": "documented"}

    exec(compile(code, "<documented>", "exec"), namespace)  # noqa: S102 - our own documentation

    assert len(namespace) > 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())

    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_page_of_metrics_is_the_catalogue() -> None:
    rows = [
        f"| `{metric.name}` | {metric.type} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |"
        for metric in SHIPPED.values()
    ]
    page = (ROOT / "docs" / "metrics.md").read_text()

    assert [line for line in page.splitlines() if line.startswith("| `")] == rows


def test_the_reference_names_every_variable() -> None:
    page = (ROOT / "docs" / "reference.md").read_text()

    assert re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE) == list(Settings.variables().values())
