# SPDX-License-Identifier: Apache-2.0
"""`nerite explain` as it is typed: real files in, text or JSON and an exit code out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nerite.cli import explain, screen

VECTORS = Path(__file__).parent / "vectors/explain"
SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: m}
spec: {predictor: {model: {modelFormat: {name: f%s}%s}}}
"""
RUNTIME = """\
---
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: rt%s}
spec:
  supportedModelFormats: [{name: f, autoSelect: true}]
  protocolVersions: [v1, v2]
  containers: [{name: kserve-container, image: 'rt:1'}]
%s
"""


def write(folder: Path, text: str, name: str = "all.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def explained(ran: Any) -> Any:
    (found,) = json.loads(ran.out)
    return found


def test_json_is_what_it_was_when_the_form_was_fixed(nerite: Any) -> None:
    ran = nerite("explain", "-f", VECTORS, "--builtin", "none", "--json")
    assert json.loads(ran.out) == json.loads((VECTORS / "expected.json").read_text())
    # The second service of the file finds nothing, which the exit code says for the whole.
    assert (ran.code, ran.err) == (1, "")


def test_a_service_with_a_runtime_exits_with_0_and_the_reason_of_every_other(
    tmp_path: Path, nerite: Any
) -> None:
    text = SERVICE.replace("name: f%s}%s", "name: sklearn}")
    ran = nerite("explain", "-f", write(tmp_path, text))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("default/m: runs on kserve-sklearnserver\n")
    rows = [line.split()[:2] for line in ran.out.splitlines() if line.startswith("  rejected")]
    assert len(rows) == 13
    assert "\x1b" not in ran.out


TRAPS = [
    ("protocol unset, only v2 offered", "", "", ("[v1, v2]", "[v2]"),
     "set protocolVersion: v2 on the model"),
    ("autoSelect forgotten", "", "", (", autoSelect: true", ""), "add autoSelect: true"),
    ("a version that is only alike", ", version: '1'", "",
     ("{name: f,", "{name: f, version: '1.3',"),
     'versions are compared as text, and it has "1.3"'),
    ("an entry without a version", ", version: '1'", "", ("", ""), "leave modelFormat.version out"),
    ("the empty version", ", version: ''", "", ("{name: f,", "{name: f, version: '1',"),
     'it has "1": write that'),
    ("a name in another case", "", "", ("{name: f,", "{name: F,"), 'write "F"'),
    ("a name with a slip", "", "", ("{name: f,", "{name: ff,"), 'did you mean the format "ff"?'),
    ("a protocol in another case", "", ", protocolVersion: V2", ("", ""), 'write "v2"'),
    ("a protocol with too many words", "", ", protocolVersion: http-v1", ("", ""), 'write "v1"'),
    ("the protocol of a named runtime", "", ", runtime: rt, protocolVersion: V1", ("", ""),
     'write "v1"'),
    ("multi-model", "", "", ("protocolVersions", "multiModel: true\n  protocolVersions"),
     'set runtime: "rt"'),
    ("the empty runtime", "", ", runtime: ''", ("", ""), "leave `runtime` out"),
    ("a runtime named by half", "", ", runtime: r", ("", ""), 'did you mean "rt"?'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("trap", "form", "model", "change", "hint"), TRAPS, ids=[trap[0] for trap in TRAPS]
)
def test_each_trap_is_told_with_its_remedy(
    trap: str, form: str, model: str, change: tuple[str, str], hint: str,
    tmp_path: Path, nerite: Any,
) -> None:  # fmt: skip
    runtime = (RUNTIME % ("", "")).replace(*change)
    file = write(tmp_path, SERVICE % (form, model) + runtime)
    ran = nerite("explain", "-f", file, "--builtin", "none")
    assert ran.code == 1, trap
    assert any("hint: " in line and hint in line for line in ran.out.splitlines())
    version = "<nil>" if "version" not in form else form.split("'")[1]
    found = explained(nerite("explain", "-f", file, "--builtin", "none", "--json"))
    # The version itself, where KServe prints the address of it.
    asked = f"no runtime found to support predictor with model type: {{f {version}}}"
    named = "No ServingRuntimes or ClusterServingRuntimes with the name: "
    refused = "specified runtime rt does not support specified protocol version"
    assert found["error"] in (asked, refused) or found["error"].startswith(named)
    assert found["candidates"][0]["outcome"] == "rejected"


def test_a_disabled_runtime_is_never_chosen_not_even_by_name(tmp_path: Path, nerite: Any) -> None:
    runtime = RUNTIME % ("", "  disabled: true")
    for model, error in (
        ("", "no runtime found to support predictor with model type: {f <nil>}"),
        (", runtime: rt", "specified runtime rt is disabled"),
    ):
        file = write(tmp_path, SERVICE % ("", model) + runtime)
        found = explained(nerite("explain", "-f", file, "--builtin", "none", "--json"))
        assert (found["error"], found["candidates"][0]["reason"]) == (error, "it is disabled")


def test_a_multi_model_runtime_may_be_named(tmp_path: Path, nerite: Any) -> None:
    text = SERVICE % ("", ", runtime: rt") + RUNTIME % ("", "  multiModel: true")
    ran = nerite("explain", "-f", write(tmp_path, text), "--builtin", "none")
    assert (ran.code, ran.out.splitlines()[0]) == (0, "default/m: runs on rt")


def test_a_runtime_of_another_namespace_is_told_to_be_out_of_sight(
    tmp_path: Path, nerite: Any
) -> None:
    text = SERVICE % ("", "") + RUNTIME % (", namespace: other", "")
    ran = nerite("explain", "-f", write(tmp_path, text), "--builtin", "none")
    assert ran.code == 1
    assert '"rt" is of namespace "other", which a service of namespace "default"' in ran.out


def test_files_and_folders_add_up(tmp_path: Path, nerite: Any) -> None:
    runtimes = tmp_path / "runtimes"
    runtimes.mkdir()
    write(runtimes, RUNTIME % ("", ""))
    file = write(tmp_path, SERVICE % ("", ""))
    ran = nerite("explain", "-f", file, "-f", runtimes)
    assert (ran.code, ran.out.splitlines()[0]) == (0, "default/m: runs on rt")
    assert nerite("explain", "-f", file).code == 1


def test_every_refused_document_is_told_with_file_line_path_and_remedy(
    tmp_path: Path, nerite: Any
) -> None:
    one = write(tmp_path, SERVICE % ("", ", storageURI: x"), "a.yaml")
    two = write(
        tmp_path, RUNTIME.replace("protocolVersions", "protocolVersion") % ("", ""), "b.yml"
    )
    ran = nerite("explain", "-f", tmp_path, "--json")
    assert (ran.code, ran.out) == (1, "")
    first, second = ran.err.splitlines()
    assert first.startswith(f'error: {one}:4:52: unknown field "storageURI"')
    assert "[spec.predictor.model.storageURI]" in first
    assert first.endswith('(fix: did you mean "storageUri"?)')
    assert second.startswith(f'error: {two}:7:3: unknown field "protocolVersion"')
    assert second.endswith('(fix: did you mean "protocolVersions"?)')


REFUSED_FILES = [
    ("no YAML", b"a: [1", "x.yaml:1:6: not YAML"),
    ("an unknown tag", b"a: !secret b\n", "x.yaml:1:4: not YAML"),
    ("a number that is none", b"a: !!int many\n", "x.yaml:1:4: not YAML"),
    ("a control character", b"a: 1\nb: \x01\n", "x.yaml:2: not YAML"),
    ("no text", b"\xff\xfe\xfa", "x.yaml:1: not UTF-8 text"),
    ("no service", b"---\n# nothing\n", "x.yaml: there is no InferenceService to explain"),
]


@pytest.mark.parametrize(
    ("case", "content", "said"), REFUSED_FILES, ids=[f[0] for f in REFUSED_FILES]
)
def test_a_file_that_cannot_be_read_is_one_line_with_its_place(
    case: str, content: bytes, said: str, tmp_path: Path, nerite: Any
) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    ran = nerite("explain", "-f", tmp_path / "x.yaml")
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (1, "", 1), case
    assert said in ran.err


def test_a_missing_file_an_empty_folder_and_an_unknown_generation_are_told(
    tmp_path: Path, nerite: Any
) -> None:
    assert "no such file or folder" in nerite("explain", "-f", tmp_path / "none.yaml").err
    assert "holds no .yaml or .yml file" in nerite("explain", "-f", tmp_path).err
    file = write(tmp_path, SERVICE % ("", ""))
    ran = nerite("explain", "-f", file, "--builtin", "0.12")
    assert (ran.code, "known: 0.20, 0.11, none" in ran.err) == (1, True)


def test_documents_of_other_apis_are_left_out_and_misspelt_kinds_refused(
    tmp_path: Path, nerite: Any
) -> None:
    space = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n---\n"
    file = write(tmp_path, space + SERVICE % ("", "") + RUNTIME % ("", ""))
    ran = nerite("explain", "-f", file)
    assert (ran.code, ran.err) == (
        0, f"warning: {file}:1: left out: v1 Namespace is not KServe's\n",
    )  # fmt: skip
    write(tmp_path, (SERVICE % ("", "")).replace("kind: Inf", "kind: Imf"))
    assert 'no matches for kind "ImferenceService"' in nerite("explain", "-f", file).err


def test_colours_are_for_terminals_and_change_no_letter(tmp_path: Path, nerite: Any) -> None:
    from nerite.kserve.explain import as_text, explain_files

    found = explain_files([write(tmp_path, SERVICE % ("", ""))])
    coloured = as_text(found, explain._style(screen.Paint(enabled=True)))
    bare = coloured
    for code in ("0", "1", "2", "31", "32", "33"):
        bare = bare.replace(f"\x1b[{code}m", "")
    assert coloured != bare == as_text(found)


def test_without_pydantic_the_error_names_the_command_that_installs_it(tmp_path: Path) -> None:
    file = write(tmp_path, SERVICE % ("", ""))
    # Hidden from Nerite alone: some versions of typer bring pydantic along for themselves.
    code = (
        "import builtins, sys\n"
        "real = builtins.__import__\n"
        "def hiding(name, scope=None, *rest):\n"
        "    asker = (scope or {}).get('__name__', '')\n"
        "    if name.startswith('pydantic') and asker.startswith('nerite.'):\n"
        "        raise ModuleNotFoundError(name)\n"
        "    return real(name, scope, *rest)\n"
        "builtins.__import__ = hiding\n"
        "from nerite.cli.app import main\n"
        f"sys.exit(main(['explain', '-f', {str(file)!r}]))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert len(ran.stderr.splitlines()) == 1
    assert ran.stderr.endswith("run: pip install 'nerite[kserve]'\n")
