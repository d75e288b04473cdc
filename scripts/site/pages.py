# SPDX-License-Identifier: Apache-2.0
"""Which pages and pictures are generated, and what is filled into the pages that are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.site import (
    cli,
    configuration,
    endpoints,
    errors,
    flags,
    metrics,
    pictures,
    python_names,
    rpcs,
)

from benches import publish

_CHECKOUT = Path(__file__).parents[2]
STAGE = _CHECKOUT / "build/site"
REFERENCE: dict[str, Callable[[], str]] = {
    "http": endpoints.page,
    "grpc": rpcs.page,
    "cli": cli.page,
    "flags": flags.page,
    "configuration": configuration.page,
    "metrics": metrics.page,
    "errors": errors.page,
    "python": python_names.page,
}
_BENCH = re.compile(r"^<!-- bench: (.+) -->$", re.M)


def generated() -> Iterator[tuple[str, str]]:
    """Every generated file with its path in the site."""
    for name, page in REFERENCE.items():
        yield f"reference/{name}.md", page()
    yield "changelog.md", (_CHECKOUT / "CHANGELOG.md").read_text()
    yield from pictures.generated()


def everything() -> Iterator[tuple[str, str]]:
    """Every file that the site is built from."""
    written = _CHECKOUT / "docs"
    for path in sorted(written.rglob("*.md")):
        yield str(path.relative_to(written)), filled(path.read_text())
    for path in sorted(written.rglob("*.css")):
        yield str(path.relative_to(written)), path.read_text()
    yield from generated()


def filled(markdown: str) -> str:
    """The page with the sections of `benches/README.md` that it asks for by their headings."""
    return _BENCH.sub(lambda match: bench(match[1]), markdown)


def bench(heading: str) -> str:
    """The text below a heading of `benches/README.md`, without its markers."""
    page = (publish.FOLDER / "README.md").read_text()
    found = re.search(rf"^### {re.escape(heading)}\n(.*?)(?=^##|\Z)", page, re.M | re.S)
    if found is None:
        raise ValueError(f"benches/README.md has no section '{heading}'")
    return re.sub(r"<!-- .*? -->\n?", "", found[1]).strip()
