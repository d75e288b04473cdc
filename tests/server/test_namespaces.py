# SPDX-License-Identifier: Apache-2.0
"""Repositories that may each have a model of the same name (`--model-namespacing`)."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tests.model_folders import write_model
from tests.server.test_reloading import IDENTITY, ask, until
from tritonclient.utils import InferenceServerException

from nerite.testing import serve

AMBIGUOUS = (
    "There are 2 identifiers of model 'both' in global map, model namespace must be provided to "
    "resolve ambiguity."
)


@pytest.fixture
def repositories(tmp_path: Path) -> tuple[Path, Path]:
    for repository, name in (("a", "both"), ("a", "only"), ("b", "both")):
        write_model(tmp_path / repository / name, {"config.pbtxt": IDENTITY, "1/": None})
    return (tmp_path / "a").resolve(), (tmp_path / "b").resolve()


def test_a_name_that_one_repository_has_is_clear(repositories: tuple[Path, Path]) -> None:
    with (
        serve(*repositories, model_namespacing=True) as server,
        grpcclient.InferenceServerClient(server.grpc_url) as client,
    ):
        assert ask(client, "only", "INPUT0") == 1
        with pytest.raises(InferenceServerException, match=re.escape(AMBIGUOUS)) as caught:
            ask(client, "both", "INPUT0")
        assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
        assert [entry.name for entry in server.states.index()] == ["both", "both", "only"]
        page = urlopen(server.metrics_url).read().decode()
        for repository in repositories:
            labels = f'model="both",version="1",namespace="{repository}"'
            assert f"nv_inference_request_success{{{labels}}} 0" in page


def test_lists_tell_names_without_their_namespaces(repositories: tuple[Path, Path]) -> None:
    with serve(*repositories, model_namespacing=True) as server:
        assert json.loads(urlopen(f"{server.http_url}/v1/models").read()) == {
            "models": ["both", "only"]
        }
        told = json.loads(urlopen(f"{server.http_url}/v2/models").read())
        # Nobody can ask for the other one by its name alone.
        assert [model["name"] for model in told["models"]] == ["only"]


def test_a_name_becomes_clear_when_the_other_model_goes(repositories: tuple[Path, Path]) -> None:
    options = {"model_namespacing": True, "model_control_mode": "poll", "poll_secs": 0.05}
    with (
        serve(*repositories, **options) as server,
        grpcclient.InferenceServerClient(server.grpc_url) as client,
    ):
        shutil.rmtree(repositories[1] / "both")
        until(lambda: len(server.states.index()) == 2, "the model is forgotten")
        assert ask(client, "both", "INPUT0") == 1


def test_a_load_of_an_ambiguous_name_is_refused(repositories: tuple[Path, Path]) -> None:
    options = {"model_namespacing": True, "model_control_mode": "explicit"}
    with (
        serve(*repositories, load_models=("*",), **options) as server,
        grpcclient.InferenceServerClient(server.grpc_url) as client,
    ):
        with pytest.raises(InferenceServerException, match=re.escape(AMBIGUOUS)):
            client.load_model("both")
        with pytest.raises(InferenceServerException, match=re.escape(AMBIGUOUS)):
            client.unload_model("both")
        client.unload_model("only")
        assert np.all([entry.state != "UNLOADING" for entry in server.states.index()[:2]])
