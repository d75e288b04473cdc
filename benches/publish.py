# SPDX-License-Identifier: Apache-2.0
"""`python -m benches.publish`: write the tables of `benches/README.md` anew from the results.

A table stands between `<!-- load: FILE -->` (or `scale`, `bad`, `large`, `kserve`, `gateway`)
and `<!-- end -->`, where FILE lies in `benches/results/`; to show newer figures, change the name
and run this. A test compares the page with its files, so a figure that nobody measured cannot stay.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benches.gateway import __main__ as gateway
from benches.kserve import __main__ as kserve
from benches.large import __main__ as large
from benches.load import cases, servers
from benches.load.cases import Case

FOLDER = Path(__file__).parent
README = FOLDER / "README.md"
_BLOCK = re.compile(
    r"(<!-- (load|scale|bad|large|kserve|gateway): (\S+) -->\n).*?(<!-- end -->)", re.DOTALL
)
_LOAD_HEAD = """\
| case | server | CPU us | requests/s | p50 ms | p99 ms | CPU / Triton | CPU / floor | goal |
|---|---|--:|--:|--:|--:|--:|--:|--:|
"""


def render(page: str, results: Path) -> str:
    """The page with every table made from the file that its marker names."""

    tables: dict[str, Callable[[dict[str, Any]], str]] = {
        "load": load_table,
        "scale": scale_table,
        "bad": bad_input_table,
        "large": lambda document: large.table(document["rows"]),
        "kserve": lambda document: kserve.table(document["rows"]),
        "gateway": lambda document: gateway.table(document["rows"]),
    }

    def block(match: re.Match[str]) -> str:
        document = json.loads((results / match[3]).read_text())
        return f"{match[1]}{_origin(document)}\n\n{tables[match[2]](document)}\n{match[4]}"

    return _BLOCK.sub(block, page)


def load_table(document: dict[str, Any]) -> str:
    """The runs with the least CPU, case by case, as a Markdown table."""
    rows = document["rows"]
    lines = []
    for case in cases.ALL_CASES:
        of_case = [row for row in rows if row["case"] == case.name]
        lines += ["| " + " | ".join(_load_cells(row, case, of_case)) + " |" for row in of_case]
    return _LOAD_HEAD + "\n".join(lines)


def scale_table(document: dict[str, Any]) -> str:
    """Starts by number of models, and below them what the connections took."""
    lines = ["| models | ready after | memory |", "|--:|--:|--:|"]
    for start in document.get("starts", []):
        memory = start["memory_bytes"] / 2**20
        lines.append(f"| {start['models']} | {start['ready_seconds']:.2f} s | {memory:.1f} MiB |")
    carried = (
        f"{document['connections']} open connections: "
        f"{document['bytes_per_connection'] / 1024:.2f} KiB for each idle one. "
        f"{document['right_answers']} requests, {document['in_flight']} at once: "
        f"{document['errors']} errors."
    )
    return "\n".join([*lines, "", carried])


def bad_input_table(document: dict[str, Any]) -> str:
    """CPU after each kind of bad input, between the figures before all and after all."""
    cases_measured = list(document["before"])
    lines = [
        "| after | " + " | ".join(f"{name}, us" for name in cases_measured) + " |",
        "|---|" + "--:|" * len(cases_measured),
    ]
    rows = [("nothing", document["before"])]
    rows += [(f"{row['protocol']}: {row['kind']}", row) for row in document["kinds"]]
    rows += [("all of them", document["after"])]
    for title, row in rows:
        lines.append(f"| {title} | " + " | ".join(f"{row[c]:.1f}" for c in cases_measured) + " |")
    return "\n".join(lines)


def main() -> int:
    """Rewrite the page."""
    README.write_text(render(README.read_text(), FOLDER / "results"))
    return 0


def _origin(document: dict[str, Any]) -> str:
    machine = document["machine"]
    text = f"{document['date'][:10]}, {machine['cores']} cores of {machine['cpu']}"
    versions = document.get("versions", {})
    named = [f"{_title(name)} {version}" for name, version in versions.items() if _title(name)]
    return f"{'; '.join([text, *named])}; `{document['command']}`"


def _title(name: str) -> str:
    """How the table calls a server; empty for the tools, whose versions stay in the file."""
    return next((s.title for s in servers.ALL_SERVERS if s.name == name), "")


def _load_cells(row: dict[str, Any], case: Case, of_case: list[dict[str, Any]]) -> list[str]:
    title = _title(row["server"])
    if "fault" in row:
        return [case.name, title, row["fault"], *[""] * 6]
    least = row["least_cpu_us_per_request"]
    run = min(row["runs"], key=lambda each: float(each["cpu_us_per_request"]))
    return [
        case.name,
        title,
        f"{least:.1f}",
        f"{run['requests_per_second']:.0f}",
        f"{run['p50_us'] / 1e3:.2f}",
        f"{run['p99_us'] / 1e3:.2f}",
        _ratio(least, of_case, "triton"),
        _ratio(least, of_case, "nginx"),
        f"{cases.GOALS_US[case]:.0f}"
        if case in cases.GOALS_US and row["server"].startswith("nerite")
        else "",
    ]


def _ratio(least: float, of_case: list[dict[str, Any]], family: str) -> str:
    for row in of_case:
        if row["server"].startswith(family) and "fault" not in row:
            return f"{least / row['least_cpu_us_per_request']:.2f}"
    return "-"


if __name__ == "__main__":
    sys.exit(main())
