# SPDX-License-Identifier: Apache-2.0
"""The site is built without a complaint, and its generated tables leave nothing out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripts.site import __main__ as site
from scripts.site import (
    cli,
    configuration,
    endpoints,
    errors,
    flags,
    metrics,
    pages,
    python_names,
    rpcs,
)
from tests.models.test_every_field import fields

import nerite
from nerite import testing
from nerite.backends.python import shim
from nerite.cli.flags import FLAGS

CHECKOUT = Path(__file__).parents[2]
ENGINE = CHECKOUT / "rust/engine/src"


@pytest.mark.timeout(120)
def test_the_site_is_built_without_a_complaint() -> None:
    assert site.main() == 0
    built = CHECKOUT / "build/docs"
    shown = {str(path.relative_to(built).with_suffix("")) for path in built.rglob("*.html")}
    assert {
        str(path).removesuffix(".md") for path, _ in pages.everything() if ".md" in path
    } <= shown
    assert "http_port" in (built / "reference/python.html").read_text()


def test_a_page_that_no_menu_lists_and_a_fetch_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lost.md").write_text("# Lost")
    (tmp_path / "a.html").write_text('<script src="https://elsewhere.example/x.js">')
    monkeypatch.setattr(pages, "STAGE", tmp_path)
    monkeypatch.setattr(site, "_BUILT", tmp_path)
    assert list(site.unlisted()) == ["mkdocs.yml: the menu does not list lost.md"]
    assert list(site.fetched()) == ["a.html fetches https://elsewhere.example/x.js"]


def test_every_flag_is_in_the_table() -> None:
    page = flags.page()
    for flag in FLAGS:
        assert page.count(f"| `{flag.name}` |") == 1
    triton = json.loads((CHECKOUT / "tests/cli/triton_flags.json").read_text())
    assert all(f"`{name}`" in page for name in triton if name != "--help")


def test_every_command_and_each_of_its_words_is_there() -> None:
    page = cli.page()
    sections = dict(re.findall(r"^## `(.*?)`.*?\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    found = dict(cli.commands())
    assert sections.keys() == found.keys()
    assert len(found) > 20
    for name, command in found.items():
        assert command.help, name
        if name != "nerite serve":
            for param in command.params:
                if param.param_type_name == "option" and param.name != "help":
                    assert param.help, (name, param.name)
                    assert f"`{param.opts[-1]}`" in sections[name], (name, param.name)


def test_every_field_has_a_fate_in_the_table() -> None:
    page = configuration.page()
    for path in fields():
        (row,) = re.findall(rf"^\| `{re.escape(path)}` \| (.+) \| (.+) \|$", page, re.M)
        assert row[1].startswith(("used", "changes nothing: ", "refused: "))


def test_every_code_is_in_the_table() -> None:
    source = (CHECKOUT / "rust/logic/src/error.rs").read_text()
    count = int(re.search(r"ALL: \[Self; (\d+)\]", source)[1])
    rows = errors.rows()
    assert len(rows) == len({row.name for row in rows}) == count
    page = errors.page()
    for name in nerite.__all__:
        if isinstance(kind := getattr(nerite, name), type) and issubclass(kind, Exception):
            assert kind is nerite.NeriteError or f"`nerite.{name}`" in page


def test_every_family_of_the_data_plane_is_in_the_table() -> None:
    named: set[str] = set()
    for source in ("metrics.rs", "latencies.rs"):
        named |= set(re.findall(r'"((?:nv|nerite)_[a-z_]+)"', (ENGINE / source).read_text()))
    found = {family.name for family in metrics.families()}
    assert len(named) > 20
    assert named <= found
    assert all(family.help for family in metrics.families())


def test_every_call_that_is_routed_is_in_the_table() -> None:
    routed = set(re.findall(r'"(\w+)" => Some\(Self::\w+\)', (ENGINE / "routes.rs").read_text()))
    routed &= {name for name in routed if name[0].isupper()}
    called = {method.name for _, method in rpcs.methods()}
    assert len(routed) > 10
    assert routed <= called
    page = rpcs.page()
    assert all(f"| `{name}` |" in page for name in called)


def test_every_path_that_is_routed_is_in_the_table() -> None:
    """The words that the route table knows, each in a path of the document."""
    source = (ENGINE / "routes.rs").read_text()
    table = source[: source.index("pub fn answers_to")]
    words = set(re.findall(r'"([a-z][a-z_/]+)"', table))
    paths = {path for path, _, _ in endpoints.operations()}
    assert len(words) > 15
    for word in words - {"openapi", "docs"}:
        assert any(word in path for path in paths) or word in ("versions", "cudasharedmemory"), word
    page = endpoints.page()
    assert all(f"`{path}`" in page for path in paths)


def test_every_public_name_of_python_is_there() -> None:
    page = python_names.page()
    assert all(f"::: nerite.{name}\n" in page for name in nerite.__all__)
    assert all(f"::: nerite.backends.python.shim.{name}\n" in page for name in shim.__all__)
    assert all(callable(getattr(testing, name)) for name in python_names.TESTING)


def test_the_picture_of_explain_is_what_the_program_says(tmp_path: Path) -> None:
    page = (CHECKOUT / "docs/getting-started.md").read_text()
    (service,) = re.findall(r'^```yaml title="irises.yaml"\n(.*?)^```', page, re.M | re.S)
    (tmp_path / "irises.yaml").write_text(service)
    command, _, recorded = (CHECKOUT / "docs/pictures/explain.ansi").read_text().partition("\n")
    words = [sys.executable, "-m", *command.split()]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    plain = re.sub(r"\x1b\[[\d;]*m", "", recorded)
    assert [line.rstrip() for line in done.stdout.splitlines()] == plain.splitlines()
