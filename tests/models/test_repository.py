# SPDX-License-Identifier: Apache-2.0
"""The models of several repositories together."""

from __future__ import annotations

from pathlib import Path

from nerite.testing import serve


def test_a_model_of_two_repositories_is_of_neither(tmp_path: Path) -> None:
    for folder in ("one/m/1", "two/m/1", "two/other/1"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder).parent.joinpath("config.pbtxt").write_text('backend: "identity"')
    with serve(tmp_path / "one", tmp_path / "two", wait=None) as server:
        assert server.wait_loaded(30)
        told = {entry.name: (str(entry.state), entry.reason) for entry in server.states.index()}
    assert told["m"][0] == "UNAVAILABLE"
    assert "model appears in two or more repositories" in told["m"][1]
    assert told["other"] == ("READY", "")
