# SPDX-License-Identifier: Apache-2.0
"""Every flag of Triton's: it works, or says what replaces it.

`triton_flags.json` has Triton's 91 flags, four of them newer than the recordings, with their
defaults. None is refused, and none ignored in silence.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nerite.cli.flags import ACCEPTED, BY_NAME, FLAGS, TLS, Flag
from nerite.cli.options import choose
from nerite.cli.serve import server_options
from nerite.errors import InvalidArgument
from nerite.server.options import ServerOptions

TRITON: dict[str, str] = json.loads(Path(__file__).with_name("triton_flags.json").read_text())
#: Defaults that are ours on purpose, with the reason that the page on coming from Triton gives.
OTHER_DEFAULTS = {
    "--id": "nerite",
    "--exit-on-error": "false",
}
#: A value that means something for flags that are not plain text, numbers or truth values.
SAMPLES = {
    "--cache-config": "local,size=1048576",
    "--metrics-config": "summary_latencies=true",
    "--trace-config": "rate=7",
    "--http-restricted-api": "health:key=value",
    "--grpc-restricted-protocol": "health:key=value",
    "--trace-level": "OFF",
    "--backend-config": "onnxruntime,default-max-batch-size=4",
    "--log-format": "ISO8601",
    "--rate-limit-resource": "R:2",
    "--graph": str(Path(__file__).parents[2] / "examples/kserve/graph/graph.yaml"),
    "--host-policy": "cpu,cpu-cores=0",
    "--model-control-mode": "poll",
    "--sagemaker-safe-port-range": "8000-9000",
    "--min-supported-compute-capability": "7.5",
}
#: What must be given beside a flag for it to be accepted.
BESIDE = {"--load-model": {"--model-control-mode": "explicit"}}
#: What a flag of TLS cannot be given without.
TLS_FILES = {
    protocol: {
        f"--{protocol}-use-ssl": "true",
        f"--{protocol}-server-cert": "server.pem",
        f"--{protocol}-server-key": "server.key",
        f"--{protocol}-root-cert": "roots.pem",
    }
    for protocol in ("grpc", "http")
}
WORKING = [flag for flag in FLAGS if flag.fate == "works"]


def sample(flag: Flag) -> str:
    if flag.name in SAMPLES:
        return SAMPLES[flag.name]
    if flag.kind == "bool":
        return "false" if "true" in (flag.default, *flag.idle) else "true"
    if flag.kind in ("int", "float", "level"):
        return str((flag.minimum or 0) + 5)
    return flag.choices[-1] if flag.choices else "word"


@pytest.mark.parametrize("name", [name for name in TRITON if name != "--help"])
def test_every_flag_of_tritons_is_known(name: str) -> None:
    assert name in BY_NAME


@pytest.mark.parametrize("flag", WORKING, ids=lambda flag: flag.name)
def test_a_flag_that_works_changes_what_the_server_is_told(flag: Flag) -> None:
    beside = TLS_FILES[flag.name[2:6]] if flag.group == TLS else BESIDE.get(flag.name, {})
    plain = server_options(["models"], choose(BESIDE.get(flag.name, {})))
    given = choose({**beside, flag.name: True if flag.kind == "switch" else sample(flag)})
    assert not given.warnings
    changed = server_options(["models"], given)
    if beside:
        assert getattr(changed, flag.option) != getattr(plain, flag.option)
    elif flag.choices[1:] or not flag.choices:
        waits = flag.name in ("--trace-file", "--trace-log-frequency", "--trace-level")
        assert changed != plain or (waits and changed.tracing is not plain.tracing)


@pytest.mark.parametrize("name", sorted(TRITON.keys() - {"--help"}))
def test_defaults_are_tritons(name: str) -> None:
    flag = BY_NAME[name]
    if flag.fate != "works" or not flag.default:
        return
    assert flag.default == OTHER_DEFAULTS.get(name, TRITON[name])
    # What the table says is what a server has that was told nothing.
    if flag.option in ServerOptions.__dataclass_fields__:
        word = flag.default
        read = server_options(["models"], choose({name: word}))
        assert read == server_options(["models"], choose({}))


@pytest.mark.parametrize(
    "flag", [flag for flag in FLAGS if flag.fate == "warned"], ids=lambda flag: flag.name
)
def test_an_accepted_flag_says_what_replaces_it(flag: Flag) -> None:
    given = choose({flag.name: sample(flag)})
    assert [warning.partition(":")[0] for warning in given.warnings] == [
        f"{flag.name} has no effect"
    ]
    assert len(flag.help.split()) >= 4, "a sentence, not a word"
    server_options(["models"], given)


def test_a_configuration_without_a_name_cannot_be_chosen() -> None:
    with pytest.raises(InvalidArgument, match="empty argument for --model-config-name"):
        choose({"--model-config-name": ""})


def help_text() -> str:
    command = [sys.executable, "-m", "nerite", "serve", "--help"]
    plain = {"COLUMNS": "400", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=plain).stdout


def test_help_shows_every_flag_in_its_group() -> None:
    shown = help_text()
    groups = re.split(r"^╭─ (.+?) ─+╮$", shown, flags=re.MULTILINE)
    panels = dict(zip(groups[1::2], groups[2::2], strict=True))
    assert {flag.group for flag in FLAGS} <= panels.keys()
    for flag in FLAGS:
        assert re.search(rf"{flag.name}\b(?!-)", panels[flag.group]), flag.name
    assert {flag.group for flag in FLAGS if flag.fate == "warned"} == {ACCEPTED}


def test_help_says_what_each_flag_is_for_and_what_holds_without_it() -> None:
    shown = " ".join(help_text().split())
    for flag in FLAGS:
        assert len(flag.help.split()) >= 3, flag.name
        told = " ".join(flag.help.split())
        assert told in shown, flag.name
        if flag.default:
            assert f"{told} [default: ({flag.default})]" in shown, flag.name


@pytest.mark.parametrize(
    ("word", "nearest"), [("--http-prot=1", "--http-port"), ("--modle-repository=m", "--model-rep")]
)
def test_a_mistyped_flag_is_told_the_nearest(word: str, nearest: str) -> None:
    command = [sys.executable, "-m", "nerite", "serve", "models", word]
    plain = {"COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=plain)
    assert done.returncode != 0
    assert f"No such option: {word.partition('=')[0]}" in done.stderr
    assert nearest in done.stderr
