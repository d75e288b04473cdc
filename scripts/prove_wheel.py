"""Prove that the wheel in a folder is small, light and importable.

Prints its size, counts the dependencies that a plain install brings, installs it into an
environment of its own and asks that for its version. Exits 1 when a goal is missed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from email import message_from_bytes
from pathlib import Path

MAX_MEGABYTES = 15
MAX_DEPENDENCIES = 4


def core_dependencies(wheel: Path) -> list[str]:
    """The requirements that hold without an extra."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    return [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]


def version_in_fresh_environment(wheel: Path) -> str:
    """Installs the wheel into a new environment and returns what `nerite version` prints."""
    uv = Path(sys.executable).with_name("uv")
    with tempfile.TemporaryDirectory(prefix="nerite-wheel-") as folder:
        home = Path(folder, "venv")
        subprocess.run(
            [uv, "venv", "--quiet", "--no-project", "--python", sys.executable, home], check=True
        )
        python = home / "bin/python"
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, wheel], check=True)
        subprocess.run([python, "-c", "import nerite, nerite._core"], check=True, cwd=folder)
        shown = subprocess.run(
            [home / "bin/nerite", "version"], check=True, cwd=folder, capture_output=True, text=True
        )
    return shown.stdout.strip()


def main(folder: str) -> int:
    """Checks the newest wheel in `folder`."""
    wheel = max(Path(folder).glob("*.whl"), key=lambda path: path.stat().st_mtime)
    megabytes = wheel.stat().st_size / 1e6
    needs = core_dependencies(wheel)
    print(f"{wheel}: {megabytes:.1f} MB (goal: at most {MAX_MEGABYTES})")
    print(f"core dependencies: {len(needs)} ({'; '.join(needs)})")
    print(f"in a fresh environment: {version_in_fresh_environment(wheel.resolve())}")
    return int(megabytes > MAX_MEGABYTES or len(needs) > MAX_DEPENDENCIES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
