# SPDX-License-Identifier: Apache-2.0
"""Placeholders: Go's template language over the service's metadata, without KServe's faults."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerite.kserve.template_syntax import TemplateError
from nerite.kserve.templates import metadata_view, render, render_container

METADATA = {
    "name": "iris",
    "namespace": "team",
    "labels": {"a": "1", "my-tier": "gold"},
    "annotations": {"url": "a<b>&\"'+\\\n"},
}

RENDERED = [
    ("{{.Name}}", "iris"),
    ("{{ .Namespace }}/{{ $.Name }}", "team/iris"),
    ("{{.Labels.a}}", "1"),
    ("[{{.Labels.nothing}}]", "[]"),
    ('{{index .Labels "my-tier"}}', "gold"),
    ("{{index .Labels `my-tier`}}", "gold"),
    ("{{.Annotations.url}}", "a<b>&\"'+\\\n"),
    ("{{if .Labels.a}}yes{{else}}no{{end}}", "yes"),
    ("{{if .Labels.b}}yes{{else if .Labels.a}}a{{else}}no{{end}}", "a"),
    ("{{with .Labels.a}}{{.}} of {{$.Name}}{{end}}", "1 of iris"),
    ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=1;my-tier=gold;"),
    ("{{range .Labels}}{{.}}{{break}}{{end}}", "1"),
    ("{{range $k, $v := .Labels}}{{if eq $k `a`}}{{continue}}{{end}}{{$v}}{{end}}", "gold"),
    ("{{$x := .Name}}{{$x}}{{$x = `b`}}{{$x}}", "irisb"),
    ("{{.Name | printf `%s-x`}}", "iris-x"),
    ('{{printf "%d/%q/%v" 3 .Name true}}', '3/"iris"/true'),
    ("{{len .Name}}", "4"),
    ("{{len (printf `ä`)}}", "2"),
    ("{{and .Name .Labels.a}}|{{or .Labels.b .Name}}|{{not .Labels.b}}", "1|iris|true"),
    ("{{eq .Name `x` `iris`}} {{ne .Name `x`}} {{lt 1 2}}", "true true true"),
    ("{{print 1 2 `a` 3}}", "1 2a3"),
    ("a{{/* no }} */}}b", "ab"),
    ("a {{- .Name -}} b", "airisb"),
    ("{{`{{`}} x }}", "{{ x }}"),
    ("{{.Labels}}", "map[a:1 my-tier:gold]"),
    ("$(VAR) ${VAR} {% x %} { } }}", "$(VAR) ${VAR} {% x %} { } }}"),
]  # fmt: skip

REFUSED = [
    ("{{.Spec}}", "at <.Spec>: can't evaluate field Spec in type v1.ObjectMeta"),
    ("{{.Name.x}}", "can't evaluate field x in type string"),
    ("{{.Labels.x-y}}", "bad character U+002D '-'"),
    ("{{ messages }}", 'function "messages" not defined'),
    ("{{ .Name", "unclosed action"),
    ("{{if .Name}}", "unexpected EOF"),
    ("{{end}}", "unexpected {{end}}"),
    ("{{}}", "missing value for command"),
    ("{{.Name | }}", "missing value for command"),
    ("{{(.Name}}", "unclosed left paren"),
    ("{{$x}}", 'undefined variable "$x"'),
    ("{{.Name .Name}}", "can't give argument to non-function"),
    ("{{define `x`}}{{end}}", "{{define}} is not supported here"),
    ("{{break}}", "{{break}} outside {{range}}"),
    ("{{index .Name 9}}", "index out of range: 9"),
    ("{{range .Name}}{{end}}", "range can't iterate over iris"),
]


@pytest.mark.parametrize(("source", "text"), RENDERED)
def test_a_template_gives_what_go_gives(source: str, text: str) -> None:
    assert render(source, metadata_view(METADATA)) == text


@pytest.mark.parametrize(("source", "reason"), REFUSED)
def test_a_broken_template_says_what_go_says(source: str, reason: str) -> None:
    with pytest.raises(TemplateError) as refused:
        render(source, metadata_view(METADATA))
    assert reason in str(refused.value)


def test_all_texts_of_a_container_are_rendered() -> None:
    container = {
        "image": "x/{{.Name}}",
        "args": ["--n={{.Name}}"],
        "env": [{"name": "A", "value": "{{.Namespace}}"}],
        "readinessProbe": {"httpGet": {"path": "/{{.Name}}", "port": 8080}},
    }
    rendered = render_container(container, {}, METADATA)
    assert rendered.value == {
        "image": "x/iris",
        "args": ["--n=iris"],
        "env": [{"name": "A", "value": "team"}],
        "readinessProbe": {"httpGet": {"path": "/iris", "port": 8080}},
    }
    assert rendered.warnings == []


def test_a_text_of_the_service_that_is_no_template_stays_with_a_warning() -> None:
    own = {"args": ["--chat-template={% for m in messages %}{{ m.content }}", "{{.Name}}"]}
    rendered = render_container({"args": ["--a", *own["args"]]}, own, METADATA)
    assert rendered.value["args"] == ["--a", own["args"][0], "iris"]
    assert len(rendered.warnings) == 1
    assert 'function "m' in rendered.warnings[0]


def test_a_text_of_the_runtime_that_is_no_template_is_an_error() -> None:
    with pytest.raises(TemplateError):
        render_container({"args": ["{{ messages }}"]}, {"args": ["{{ other }}"]}, METADATA)


@given(st.text().filter(lambda text: "{{" not in text))
def test_text_without_actions_is_left_alone(text: str) -> None:
    assert render(text, metadata_view(METADATA)) == text


@given(st.text())
def test_any_value_arrives_as_it_is(value: str) -> None:
    assert render("{{.Labels.v}}", metadata_view({"labels": {"v": value}})) == value


@given(st.text(alphabet='{}.()|$ifendranglse"`-/*= Name', max_size=40))
def test_any_source_gives_a_text_or_a_template_error(source: str) -> None:
    with contextlib.suppress(TemplateError):
        assert isinstance(render(source, metadata_view(METADATA)), str)
