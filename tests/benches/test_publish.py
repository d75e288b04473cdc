# SPDX-License-Identifier: Apache-2.0
"""The tables of the page are those of the files that it names."""

from __future__ import annotations

import json
from pathlib import Path

from benches import publish


def run(cpu_us: float) -> dict[str, float]:
    """A run as a results file holds it."""
    figures = {"requests_per_second": 100_000.0, "p50_us": 500.0, "p99_us": 2000.0}
    return figures | {"cpu_us_per_request": cpu_us}


def document(rows: list[dict[str, object]]) -> dict[str, object]:
    """A results file with these rows."""
    machine = {"cpu": "Some CPU", "cores": 2, "kernel": "6.1", "python": "3.11.7"}
    versions = {"nginx": "1.22.1", "wrk": "4.1"}
    head = {"date": "2026-01-02T03:04:05+00:00", "command": "python -m benches.load"}
    return head | {"machine": machine, "versions": versions, "rows": rows}


def test_the_page_shows_what_was_measured() -> None:
    page = publish.README.read_text()
    assert "<!-- load: " in page
    assert publish.render(page, publish.FOLDER / "results") == page


def test_a_table_replaces_what_stood_between_its_markers(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {
            "server": "nerite-identity",
            "case": "grpc@64",
            "least_cpu_us_per_request": 6.0,
            "runs": [run(9.0), run(6.0)],
        },
        {
            "server": "triton-python",
            "case": "grpc@64",
            "least_cpu_us_per_request": 60.0,
            "runs": [run(60.0)],
        },
        {"server": "nginx", "case": "grpc@64", "fault": "missing: nginx"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(document(rows)))
    page = "before\n<!-- load: a.json -->\nold\n<!-- end -->\nafter\n"
    lines = publish.render(page, tmp_path).splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in lines
    assert lines[2] == (
        "2026-01-02, 2 cores of Some CPU; nginx, fixed answer 1.22.1; `python -m benches.load`"
    )
    assert lines[6:9] == [
        "| grpc@64 | Nerite, identity backend | 6.0 | 100000 | 0.50 | 2.00 | 0.10 | - | 9 |",
        "| grpc@64 | Triton, model.py | 60.0 | 100000 | 0.50 | 2.00 | 1.00 | - |  |",
        "| grpc@64 | nginx, fixed answer | missing: nginx |  |  |  |  |  |  |",
    ]


def test_a_scale_table_has_a_line_for_each_start(tmp_path: Path) -> None:
    starts = [{"models": 50, "ready_seconds": 0.5, "memory_bytes": 2**26, "not_ready": 0}]
    carried = {"connections": 5000, "bytes_per_connection": 2048, "right_answers": 3000}
    found = {"starts": starts, "in_flight": 1000, "errors": 0} | carried
    (tmp_path / "s.json").write_text(json.dumps(document([]) | found))
    page = publish.render("<!-- scale: s.json -->\n<!-- end -->", tmp_path)
    assert "| 50 | 0.50 s | 64.0 MiB |" in page
    assert "5000 open connections: 2.00 KiB for each idle one" in page
    assert "3000 requests, 1000 at once: 0 errors" in page
