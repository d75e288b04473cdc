# SPDX-License-Identifier: Apache-2.0
"""`python -m scripts.site.record`: run the commands of the terminal pictures, keep what they show.

Each runs as a person would run it, at a terminal, in an empty folder with the model of
`docs/getting-started.md`. Free ports are written as the usual ones. The pictures are made of the
recordings whenever the site is built.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from scripts.site.pictures import FOLDER

_NERITE = (sys.executable, "-m", "nerite")
_PAGE = FOLDER.parent / "getting-started.md"
_PORTS = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")
_CLEARED = re.compile(r"(?:\r?\x1b\[2K|\x1b\[1A)+")


def shown(words: Sequence[str], folder: Path, enough: Callable[[str], bool]) -> str:
    """What a command writes to a terminal until it is enough."""
    main, side = pty.openpty()
    variables = {**os.environ, "COLUMNS": "100", "LINES": "40", "TERM": "xterm-256color"}
    variables["NERITE_HOME"] = str(folder / "home")
    process = subprocess.Popen(
        [*_NERITE, *words], cwd=folder, env=variables, stdout=side, stderr=subprocess.DEVNULL
    )
    os.close(side)
    text = ""
    # Whatever happens, a recording ends.
    clock = threading.Timer(60, process.kill)
    clock.start()
    try:
        while not enough(text):
            text += os.read(main, 65536).decode().replace("\r\n", "\n")
    except OSError:  # the command has ended
        pass
    finally:
        clock.cancel()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(30)
        os.close(main)
    # A live table is written over and over; what stands there in the end counts.
    return _CLEARED.split(text)[-1].replace("\x1b[?25l", "").replace("\x1b[?25h", "")


def prepare(folder: Path) -> None:
    """The model and the service of the page."""
    page = _PAGE.read_text()
    train = re.search(r"^```python\n(.*?)^```", page, re.M | re.S)
    service = re.search(r'^```yaml title="irises.yaml"\n(.*?)^```', page, re.M | re.S)
    assert train is not None
    assert service is not None
    subprocess.run([sys.executable, "-c", train[1]], cwd=folder, check=True)
    (folder / "irises.yaml").write_text(service[1])
    (folder / "models/irises").mkdir(parents=True)
    shutil.copy(folder / "irises.skops", folder / "models/irises/model.skops")


def record(folder: Path) -> dict[str, str]:
    """Recordings by name, their first line the command."""
    up = ("up", "-f", "irises.yaml", "--pvc", "flowers=models")
    explain = ("explain", "-f", "irises.yaml")
    serve = ("serve", "irises.skops")
    recordings = {
        "serve": (serve, shown([*serve, *_PORTS], folder, lambda text: "nerite models" in text)),
        "explain": (explain, shown(explain, folder, lambda _: False)),
        "up": (
            up,
            shown(
                [*up, "--http-port=0", "--grpc-port=0"],
                folder,
                lambda text: (
                    "meanwhile" in (last := _CLEARED.split(text)[-1]) and last.count("True") >= 2
                ),
            ),
        ),
    }
    return {
        name: f"nerite {' '.join(words)}\n{_usual_ports(text)}"
        for name, (words, text) in recordings.items()
    }


def _usual_ports(text: str) -> str:
    """The free ports of HTTP and gRPC as those that they have unless told otherwise."""
    told = re.search(r"HTTP on 127\.0\.0\.1:(\d+), gRPC on 127\.0\.0\.1:(\d+)", text)
    if told is not None:
        text = text.replace(told[1], "8080").replace(told[2], "8081")
    text = re.sub(
        r"(?<=try: curl http://127\.0\.0\.1:)\d+|(?<=--url http://127\.0\.0\.1:)\d+", "8000", text
    )
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines()) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        prepare(Path(temporary))
        for picture, recorded in record(Path(temporary)).items():
            (FOLDER / f"{picture}.ansi").write_text(recorded)
            print(recorded)
