# SPDX-License-Identifier: Apache-2.0
"""Every block of the guide to a cluster is run as it stands, but for the ports and the cluster.

`local-kserve.md`, whose reader has a daemon, is followed in `test_local_kserve_guide`; all other
pages in `test_pages`.

What a cluster would be given is admitted by Nerite's own rules of admission instead, and an image
is not built: its recipe has to be there.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.serving import served

from nerite.kserve.admission import Cluster, admit_all
from nerite.kserve.documents import read_files

CHECKOUT = Path(__file__).parents[2]
NERITE = ".venv/bin/nerite"
GUIDES = [CHECKOUT / "docs/guides/kserve.md"]
FREE_PORTS = ("--http_port=0", "--grpc_port=0", "--metrics-port=0", "--drain-delay=0")
pytestmark = pytest.mark.timeout(90)


class Reader:
    """Somebody who does what a guide says."""

    def __init__(self, servers: ExitStack) -> None:
        self.servers = servers
        self.address = ""

    def follow(self, kind: str, block: str) -> None:
        kinds: dict[str, Callable[[str], None]] = {
            "sh": self.type_lines,
            "python": self.run_python,
            "yaml": self.save,
        }
        kinds[kind](block)

    def type_lines(self, block: str) -> None:
        for line in block.splitlines():
            words = shlex.split(line)
            if words[:2] == [NERITE, "serve"]:
                self.serve(words)
            elif words[0] == "kubectl":
                self.apply(words)
            elif words[0] == "docker":
                assert (CHECKOUT / words[words.index("-f") + 1]).is_file()
            elif words[0] == "make":
                self.run([*words, "-n"])
            elif words[0] == "curl":
                line = line.replace("localhost:8080", self.address)
                shown = self.run(["bash", "-c", f"{line} --http1.1 --fail"])
                assert "error" not in shown
            else:
                assert words[0] in (NERITE, "mkdir"), line
                self.run(["bash", "-c", line.replace(NERITE, f"{sys.executable} -m nerite")])

    def serve(self, words: list[str]) -> None:
        command = [sys.executable, "-m", "nerite", *words[1:], *FREE_PORTS]
        shown = self.servers.enter_context(served(command, CHECKOUT))
        found = re.search(r"http://(\S+?)/", shown)
        assert found is not None
        self.address = found[1]

    def apply(self, words: list[str]) -> None:
        assert words[:3] == ["kubectl", "apply", "-f"]
        documents = read_files([CHECKOUT / words[3]])
        assert documents
        admit_all(documents, Cluster())

    def run_python(self, block: str) -> None:
        assert self.run([sys.executable, "-c", block]).strip()

    def save(self, block: str) -> None:
        first = block.partition("\n")[0]
        assert first.startswith("# build/")
        (CHECKOUT / first.removeprefix("# ")).write_text(block)

    def run(self, words: list[str]) -> str:
        done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout


@pytest.mark.parametrize("guide", GUIDES, ids=[guide.stem for guide in GUIDES])
def test_every_block_of_the_guide_works(guide: Path) -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", guide.read_text(), re.M | re.S)
    assert blocks
    with ExitStack() as servers:
        reader = Reader(servers)
        for kind, block in blocks:
            reader.follow(kind, block)


def test_the_guide_of_kserve_tells_the_defaults_that_hold() -> None:
    from nerite.cli.kserve_flags import DEFAULTS

    text = (CHECKOUT / "docs/guides/kserve.md").read_text()
    assert f"--drain-delay={DEFAULTS['--drain-delay']}`" in text
    assert f"--exit-timeout-secs={DEFAULTS['--exit-timeout-secs']}`" in text
    assert f"HTTP on {DEFAULTS['--http-port']}, gRPC on {DEFAULTS['--grpc-port']}" in text


def test_the_service_of_the_guide_gets_the_runtime_of_the_guide(tmp_path: Path) -> None:
    text = (CHECKOUT / "docs/guides/kserve.md").read_text()
    (service,) = re.findall(r"^```yaml\n(# build/kserve/iris.*?)^```$", text, re.M | re.S)
    (tmp_path / "iris.yaml").write_text(service)
    nerite = [sys.executable, "-m", "nerite"]
    made = subprocess.run([*nerite, "export", "runtime"], check=True, capture_output=True)
    (tmp_path / "runtimes.yaml").write_bytes(made.stdout)
    words = [*nerite, "explain", "-f", str(tmp_path), "--json"]
    found = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    assert found[0]["chosen"] == "nerite-sklearn"
