"""kubectl's templates: what scripts about InferenceServices ask for, each with kubectl's answer."""

from __future__ import annotations

from typing import Any

import pytest

from nerite.errors import InvalidArgument
from nerite.local.jsonpath import evaluated

ONE: dict[str, Any] = {
    "metadata": {"name": "iris", "annotations": {"serving.kserve.io/stop": "true"}, "n": 2},
    "status": {
        "url": "http://iris",
        "ready": True,
        "conditions": [
            {"type": "PredictorReady", "status": "True"},
            {"type": "Ready", "status": "False", "n": 3},
        ],
    },
}
LIST = {"kind": "List", "items": [ONE, {"metadata": {"name": "oak"}}]}


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{.status.url}", "http://iris"),
        (".status.url", "http://iris"),
        ("{.status.none.of.it}", ""),
        ("{.status.conditions[0].type}", "PredictorReady"),
        ("{.status.conditions[-1].type}", "Ready"),
        ("{.status.conditions[0:1].type}", "PredictorReady"),
        ("{.status.conditions[*].type}", "PredictorReady Ready"),
        ('{.status.conditions[?(@.type=="Ready")].status}', "False"),
        ("{.status.conditions[?(@.type=='Ready')].status}", "False"),
        ('{.status.conditions[?(@.type != "Ready")].status}', "True"),
        ("{.status.conditions[?(@.n)].type}", "Ready"),
        ("{.status.conditions[?(@.n > 2)].type}", "Ready"),
        ("{.status.conditions[?(@.n > 3)].type}", ""),
        (r"{.metadata.annotations.serving\.kserve\.io/stop}", "true"),
        ("{.metadata.annotations['serving.kserve.io/stop']}", "true"),
        ("{['metadata']['n']}", "2"),
        ("{.status.ready}", "true"),
        ("{.metadata.annotations}", '{"serving.kserve.io/stop":"true"}'),
        ('{.metadata.name}{"\\t"}{.status.url}{"\\n"}', "iris\thttp://iris\n"),
        ("name={.metadata.name}!", "name=iris!"),
        ("{$.metadata.name}", "iris"),
    ],
)
def test_of_one_object(template: str, said: str) -> None:
    assert evaluated(template, ONE) == said


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{.items[*].metadata.name}", "iris oak"),
        ("{.items[0].metadata.name}", "iris"),
        ('{range .items[*]}{.metadata.name}={.status.url}{"\\n"}{end}', "iris=http://iris\noak=\n"),
        ("{range .items[*]}{$.kind} {end}.", "List List ."),
        ("{range .none[*]}x{end}", ""),
        ("{range .items[*]}{range .status.conditions[*]}{.type},{end};{end}",
         "PredictorReady,Ready,;;"),
        ('{.items[?(@.metadata.name=="oak")].metadata.name}', "oak"),
        ("{.items..name}", None),
        ("{.metadata.name", None),
        ("{range .items[*]}x", None),
        ("{end}", None),
        ("{.items[a]}", None),
        ("{.items[?(@.n==x)]}", None),
    ],
)  # fmt: skip
def test_of_a_list(template: str, said: str | None) -> None:
    if said is None:
        with pytest.raises(InvalidArgument, match=r"jsonpath '.*not understood at"):
            evaluated(template, LIST)
    else:
        assert evaluated(template, LIST) == said
