# SPDX-License-Identifier: Apache-2.0
"""Pictures as SVG: drawings from `docs/pictures/*.d2`, terminals from what `record` recorded.

Both are readable on light and on dark ground and take nothing from the network.
"""

from __future__ import annotations

import re
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

FOLDER = Path(__file__).parents[2] / "docs/pictures"
#: D2's themes: neutral on light ground, and one for dark ground.
_THEMES = ("--theme=0", "--dark-theme=200", "--pad=4", "--layout=elk")
_FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)


def generated() -> Iterator[tuple[str, str]]:
    """Every picture with its path in the site."""
    for drawing in sorted(FOLDER.glob("*.d2")):
        yield f"pictures/{drawing.stem}.svg", drawn(drawing)
    for recorded in sorted(FOLDER.glob("*.ansi")):
        yield f"pictures/{recorded.stem}.svg", terminal(recorded)


def drawn(drawing: Path) -> str:
    """A drawing as SVG."""
    d2 = Path(sysconfig.get_path("scripts")) / "d2"
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "picture.svg"
        done = subprocess.run(
            [d2, *_THEMES, drawing, target], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ValueError(f"{drawing}: {done.stderr}")
        return target.read_text()


def terminal(recorded: Path) -> str:
    """A terminal as SVG; the first line of the file is the command."""
    command, _, shown = recorded.read_text().partition("\n")
    text = Text.from_ansi(f"$ {command}\n{shown.rstrip()}")
    width = max(len(line) for line in text.plain.splitlines())
    with tempfile.TemporaryFile("w") as nowhere:
        console = Console(record=True, width=width, file=nowhere, force_terminal=True)
        console.print(text)
        svg = console.export_svg(title=command, unique_id=recorded.stem)
    # Rich names fonts of the network; every machine has one of its own.
    return _FONTS.sub("", svg).replace("Fira Code, monospace", "ui-monospace, monospace")
