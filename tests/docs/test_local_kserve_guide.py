# SPDX-License-Identifier: Apache-2.0
"""The guide to KServe on one machine, followed from top to bottom in an empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.local.conftest import free_ports
from tests.local.daemons import up

__all__ = ["free_ports"]
GUIDES = Path(__file__).parents[2] / "docs/guides"
BLOCKS = re.compile(r"(?:^`([\w.-]+)`[^\n]*\n\n)?^```(\w+)\n(.*?)^```$", re.M | re.S)
pytestmark = pytest.mark.timeout(240)


def follow(block: str, folder: Path, environment: dict[str, str]) -> str:
    """Runs a block of shell as it stands; what it printed."""
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, f"{block}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def test_the_guide_to_local_kserve_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_ports: tuple[int, int]
) -> None:
    text = (GUIDES / "local-kserve.md").read_text()
    home = tmp_path / "home"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "NERITE_HOME": str(home), "PATH": path}
    monkeypatch.chdir(tmp_path)
    blocks = BLOCKS.findall(text)
    assert len(blocks) == 16
    start = next(i for i, block in enumerate(blocks) if block[2].startswith("nerite up"))
    for name, kind, block in blocks[:start]:
        if kind == "python":
            subprocess.run([sys.executable, "-c", block], cwd=tmp_path, check=True)
        elif kind == "yaml":
            (tmp_path / name).write_text(block)
        else:
            assert block == "pip install 'nerite[kserve,sklearn]'\n"
    with up(home, *blocks[start][2].split()[2:]) as daemon:
        shown = []
        for name, kind, block in blocks[start + 1 :]:
            # The guide's ports may be taken; those of this daemon are free ones.
            block = block.replace("localhost:8081", daemon.grpc)
            block = block.replace(":8080", f":{daemon.http.rpartition(':')[2]}")
            block = block.replace("8900", str(free_ports[0]))
            if kind == "yaml":
                (tmp_path / name).write_text(block)
            elif kind == "python":
                words = [sys.executable, "-c", block]
                shown.append(
                    subprocess.run(words, check=True, capture_output=True, text=True).stdout
                )
            else:
                shown.append(follow(block, tmp_path, environment))
        verbs, forms, asked, by_grpc, canary, _, of_graph, together, trained = shown
        assert "inferenceservice.serving.kserve.io/irises condition met" in verbs
        assert "InferenceService [irises] is Ready" in verbs
        assert "inferenceservice.serving.kserve.io/irises " in forms
        assert re.search(r"NAME +READY\nirises +True\n", forms)
        assert '"data":[0' in asked.replace(" ", "")
        assert asked.count('"name":"irises"') == 3
        assert by_grpc == "[0]\n"
        assert canary == "inferenceservice.serving.kserve.io/irises configured\n"
        (answer,) = [line for line in of_graph.splitlines() if line.startswith("{")]
        answer = json.loads(answer.partition("inferenceservice.")[0])
        found = {step: part["outputs"][0]["data"] for step, part in answer.items()}
        assert found == {"now": [2], "before": [0]}
        assert 'inferencegraph.serving.kserve.io "both" deleted' in of_graph
        assert of_graph.endswith('inferenceservice.serving.kserve.io "irises" deleted\n')
        assert together.count("shared-1") == 2
        assert '"name":"flowers-next"' in together
        assert '{"predictions":[0]}' in trained
        assert daemon.stop() == 0
