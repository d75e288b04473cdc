"""The table of `nerite up`: no fact is lost on a narrow terminal, and none torn on a wide one."""

from __future__ import annotations

import io

import pytest

from nerite.cli.up_table import lines, rendered
from nerite.local.overview import Row

PORTS = "HTTP on 127.0.0.1:8080, gRPC on 127.0.0.1:8081"
LONG = "team-with-a-long-name/an-inference-service-with-a-rather-long-name"
REASON = (
    "kserve-tritonserver runs what is in the image nvcr.io/nvidia/tritonserver; in its place "
    "Nerite serves onnx and triton, not tensorrt: give the runtime a 'command' that is here"
)
ROWS = [
    Row("default/iris", "True", "http://127.0.0.1:8080/serving/default/iris"),
    Row("  predictor", "True", "http://127.0.0.1:57831", 2, "the latest revision is being loaded"),
    Row(LONG, "False", f"http://127.0.0.1:8080/serving/{LONG}"),
    Row("  predictor", "False", "", 0, REASON),
]


def shown(width: int, rows: list[Row] = ROWS) -> list[str]:
    return [line.text for line in lines(rows, PORTS, width)]


def test_short_rows_have_their_address_beside_them() -> None:
    assert shown(80, ROWS[:2]) == [
        "NAME          READY    RESTARTS  URL",
        "default/iris  True               http://127.0.0.1:8080/serving/default/iris",
        "  predictor   True     2         http://127.0.0.1:57831",
        "    the latest revision is being loaded",
        PORTS,
        "Ctrl-C stops everything; meanwhile: nerite apply, get, describe, logs, delete",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_every_fact_is_there_at_every_width(width: int) -> None:
    """At 80 columns the states and reasons were off the screen, behind a long name and its URL."""
    text = shown(width)
    assert sum(" True" in line for line in text) == 2
    assert sum(" False" in line for line in text) == 2
    whole = " ".join(" ".join(line.split()) for line in text)
    for fact in (*(row.name.strip() for row in ROWS), *(row.url for row in ROWS), REASON, PORTS):
        assert fact in whole
    # Only what cannot be broken is longer than the terminal: names and addresses.
    assert not [line for line in text if len(line) > width and "/" not in line]


def test_nothing_applied_is_said() -> None:
    assert shown(80, [])[0] == "nothing is applied yet"


def test_no_color_leaves_the_words() -> None:
    from rich.console import Console

    for no_color in (True, False):
        out = io.StringIO()
        console = Console(file=out, width=80, force_terminal=True, no_color=no_color)
        console.print(rendered(ROWS[:1], PORTS, 80))
        assert ("\x1b[32m" in out.getvalue()) is not no_color
        assert "default/iris" in out.getvalue()
