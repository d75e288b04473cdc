"""Repository agents: what they check, where they lead, and that they are told the end."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.models.test_lifecycle import IDENTITY, life, states_of

DATA = b"weights"


def with_agent(name: str, **parameters: str) -> str:
    written = " ".join(f'parameters {{ key: "{k}" value: "{v}" }}' for k, v in parameters.items())
    return IDENTITY + f'model_repository_agents {{ agents [ {{ name: "{name}" {written} }} ] }}'


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"MD5:1/data": hashlib.md5(DATA).hexdigest()}, ""),
        ({"SHA256:1/data": hashlib.sha256(DATA).hexdigest().upper()}, ""),
        ({"MD5:1/data": "0" * 32}, "Mismatched MD5 hash for file 1/data, expect: 0000"),
        ({"MD5:1/none": "0"}, "cannot read the file '1/none': No such file"),
        ({"MD5:../../x": "0"}, "'../../x' is not a path inside"),
        ({"CRC:1/data": "0"}, "does not understand the parameter 'CRC:1/data'; MD5:{path} and"),
    ],
)
def test_checksums_are_compared_before_anything_is_loaded(
    tmp_path: Path, engine: Any, write: Any, parameters: Mapping[str, str], reason: str
) -> None:
    config = with_agent("checksum", **parameters)
    write(tmp_path / "m", {"config.pbtxt": config, "1/data": DATA.decode()})
    lifecycle, states = life(engine, tmp_path)
    (entry,) = states.index()
    assert entry.state == ("UNAVAILABLE" if reason else "READY"), entry
    assert reason in entry.reason
    assert bool(engine.versions) is not bool(reason)
    assert lifecycle.close(5)


class Unpacks:
    """Leads to a copy with another configuration."""

    told: ClassVar[list[str]] = []

    def load(self, folder: Path, parameters: Mapping[str, str]) -> Path:
        self._copy = Path(tempfile.mkdtemp())
        self.told.append(f"load {parameters['size']}")
        shutil.copytree(folder, self._copy / "m")
        text = (self._copy / "m/config.pbtxt").read_text()
        changed = text.replace("max_batch_size: 4", f"max_batch_size: {parameters['size']}")
        (self._copy / "m/config.pbtxt").write_text(changed)
        return self._copy / "m"

    def unload(self) -> None:
        shutil.rmtree(self._copy)
        self.told.append("unload")


@pytest.fixture
def unpacks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    module = types.ModuleType("my_agents")
    module.Unpacks, module.nothing = Unpacks, 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_agents", module)
    Unpacks.told.clear()
    return Unpacks.told


def test_an_agent_of_ones_own_may_lead_to_another_folder(
    tmp_path: Path, engine: Any, write: Any, unpacks: list[str]
) -> None:
    config = with_agent("my_agents:Unpacks", size="9")
    write(tmp_path / "m", {"config.pbtxt": config, "1/": None})
    lifecycle, states = life(engine, tmp_path)
    assert states_of(states) == {"m": "READY"}, states.index()
    assert '"max_batch_size":9' in engine.versions["m", 1].config_json.replace(" ", "")
    assert unpacks == ["load 9"]
    assert lifecycle.unload("m", 5)
    assert unpacks == ["load 9", "unload"]


def test_an_agent_is_told_of_a_load_that_failed(
    tmp_path: Path, engine: Any, write: Any, unpacks: list[str]
) -> None:
    config = with_agent("my_agents:Unpacks", size="-2")
    write(tmp_path / "m", {"config.pbtxt": config, "1/": None})
    _, states = life(engine, tmp_path)
    assert states_of(states) == {"m": "UNAVAILABLE"}
    assert unpacks == ["load -2", "unload"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("my_agents:nothing", "is not a class with the methods load and unload"),
        ("no_such_module:Agent", "cannot be imported: ModuleNotFoundError"),
        ("decrypt", "unable to find 'libtritonrepoagent_decrypt.so' for repo agent 'decrypt'"),
    ],
)
def test_an_agent_that_is_none_is_told(
    tmp_path: Path, engine: Any, write: Any, unpacks: list[str], name: str, text: str
) -> None:
    write(tmp_path / "m", {"config.pbtxt": with_agent(name), "1/": None})
    _, states = life(engine, tmp_path)
    assert text in states.index()[0].reason
