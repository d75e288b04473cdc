"""Ensembles beside the models in them: what is loaded, refused, unloaded and reloaded together."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tests.keyed import bearer, make_key
from tests.server.ensembles import (
    asked,
    ensemble,
    floats,
    grpc_inputs,
    identity,
    index,
    infer,
    python,
    step,
    write,
)
from tests.server.streaming import Stream, eventually
from tritonclient.utils import InferenceServerException

from nerite import Server
from nerite.server.access_options import AccessOptions
from nerite.testing import serve

READY = ("READY", "")
UNLOADED = ("UNAVAILABLE", "unloaded")
CHAIN = [step("a", "INPUT0=IN", "OUTPUT0=t"), step("b", "INPUT0=t", "OUTPUT0=OUT")]
REPEAT = """def answers(request):
    for _ in range(2):
        yield out(OUTPUT0=get(request, 'INPUT0'))
"""

explicit = functools.partial(serve, model_control_mode="explicit")


def one_step(model: str, reads: str = "INPUT0=IN", writes: str = "OUTPUT0=OUT", **more: Any) -> Any:
    version = more.pop("version", -1)
    return ensemble("IN", "OUT", [step(model, reads, writes, version)], **more)


def load(
    server: Server, name: str, config: str = "", shown: Mapping[str, str] | None = None
) -> Any:
    body = {"parameters": {"config": config}} if config else {}
    return asked(server, f"/v2/repository/models/{name}/load", body, shown)


def unload(server: Server, name: str, dependents: bool = False, shown: Any = None) -> Any:
    body = {"parameters": {"unload_dependents": dependents}}
    return asked(server, f"/v2/repository/models/{name}/unload", body, shown)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": (
        one_step("nosuch"),
        "ensemble e contains models that are not available or ambiguous: nosuch",
    ),
    "version": (
        one_step("m", version=9),
        "ensemble 'e' depends on 'm' whose required version 9 is not loaded.",
    ),
    "no version": (
        one_step("m", version=0),
        "ensemble 'e' depends on 'm' whose required version 0 is not loaded.",
    ),
    "failed": (
        one_step("bad"),
        "ensemble 'e' depends on 'bad' which has no loaded version. Model 'bad' loading failed "
        "with error: ",
    ),
    "batch": (
        one_step("m", batch=9),
        "ensemble e allows maximum batch size 9, but it contains model m which only allows maximum "
        "batch size to be 8",
    ),
    "input": (
        one_step("m", "INPUT0=IN INPUT7=IN"),
        "in ensemble e, ensemble tensor IN is mapping to non-existing input INPUT7 in model m",
    ),
    "output": (
        one_step("m", writes="OUTPUT7=OUT"),
        "in ensemble e, ensemble tensor OUT is mapped from non-existing output OUTPUT7 in model m",
    ),
    "unmapped": (
        one_step("pair"),
        "in ensemble e, input INPUT1 in model pair is not mapped to any ensemble tensors",
    ),
    "type": (
        one_step("int"),
        "in ensemble e, ensemble tensor IN: inconsistent data type: TYPE_FP32 is inferred from "
        "model e while TYPE_INT32 is inferred from model int",
    ),
    "shape": (
        one_step("flat2"),
        "in ensemble e, ensemble tensor IN: inconsistent shape: [-1,-1] is inferred from model e "
        "while [-1,2,2] is inferred from model flat2",
    ),
    "ring": (one_step("e", "IN=IN", "OUT=OUT"), "circular dependency between ensembles: e -> "),
    "nested": (
        one_step("inner", "IN=IN", "OUT=OUT"),
        "ensemble 'e' depends on 'inner' which is not valid. Model 'inner' failed with error: "
        "in ensemble inner, ensemble tensor IN: inconsistent data type",
    ),
    "mixed": (
        ensemble(
            "IN",
            "OUT",
            [
                step("rep", "INPUT0=IN", "OUTPUT0=s"),
                step("pair", "INPUT0=IN INPUT1=s", "OUTPUT0=OUT"),
            ],
        ),
        "in ensemble e, step of model 'pair' receives inputs originated from different decoupled "
        "models",
    ),
}
BESIDE = {
    "m": identity(),
    "bad": {"config.pbtxt": 'backend: "nosuch"', "1/": None},
    "pair": identity("INPUT0 INPUT1", "OUTPUT0 OUTPUT1"),
    "int": identity("INPUT0:INT32", "OUTPUT0:INT32"),
    "flat2": identity("INPUT0:FP32[2,2]", "OUTPUT0:FP32[2,2]"),
    "inner": one_step("int"),
    "rep": python("INPUT0", "OUTPUT0", REPEAT),
}


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with explicit(write(tmp_path_factory.mktemp("wrong"), BESIDE)) as server:
        yield server


@pytest.mark.parametrize("case", WRONG)
def test_an_ensemble_that_does_not_fit_its_models_is_refused(case: str, beside: Server) -> None:
    files, text = WRONG[case]
    write(Path(beside.options.repositories[0]), {"e": files})
    status, told = load(beside, "e")
    assert status == 400
    assert text in told["error"]
    assert index(beside)["e"][0] == "UNAVAILABLE"
    assert text in index(beside)["e"][1]
    status, told = asked(beside, "/v2/models/e")
    assert (status, told["error"]) == (404, "Request for unknown model: 'e' is not found")


def test_what_an_ensemble_calls_is_loaded_and_unloaded_with_it(tmp_path: Path) -> None:
    models = {"a": identity(), "b": identity(), "e": ensemble("IN", "OUT", CHAIN)}
    with explicit(write(tmp_path, models | {"outer": one_step("e", "IN=IN", "OUT=OUT")})) as server:
        assert load(server, "b") == (200, None)
        assert load(server, "outer") == (200, None)
        assert index(server) == dict.fromkeys(("a", "b", "e", "outer"), READY)
        assert infer(server, "outer", {"IN": floats(1)}) == (200, {"OUT": [[1.0]]})
        assert unload(server, "outer", dependents=True) == (200, None)
        eventually(lambda: index(server)["a"] == UNLOADED)
        # Somebody wanted this one for itself.
        assert index(server) == {"a": UNLOADED, "b": READY, "e": UNLOADED, "outer": UNLOADED}
        assert infer(server, "e", {"IN": floats(1)}) == (
            404,
            "Request for unknown model: 'e' has no available versions",
        )


def test_an_ensemble_falls_with_a_model_and_comes_back_with_it(tmp_path: Path) -> None:
    models = {"a": identity(), "b": identity(), "e": ensemble("IN", "OUT", CHAIN)}
    with explicit(write(tmp_path, models | {"outer": one_step("e", "IN=IN", "OUT=OUT")})) as server:
        assert load(server, "outer") == (200, None)
        assert unload(server, "b") == (200, None)
        eventually(lambda: index(server)["b"] == UNLOADED)
        reason = "Invalid argument: ensemble '{}' depends on 'b' which is not loaded"
        eventually(lambda: index(server)["e"] == ("UNAVAILABLE", reason.format("e")))
        eventually(lambda: index(server)["outer"] == ("UNAVAILABLE", reason.format("outer")))
        assert index(server)["a"] == READY
        assert infer(server, "outer", {"IN": floats(1)})[0] == 404
        assert load(server, "b") == (200, None)
        eventually(lambda: all(entry == READY for entry in index(server).values()))
        assert infer(server, "outer", {"IN": floats(1)}) == (200, {"OUT": [[1.0]]})


def test_an_ensemble_follows_what_its_model_becomes(tmp_path: Path) -> None:
    models = {"m": identity(), "e": one_step("m")}
    with explicit(write(tmp_path, models), load_models=("e",)) as server:
        write(tmp_path, {"m": python("INPUT0", "OUTPUT0", REPEAT)})
        assert load(server, "m") == (200, None)

        def decoupled() -> bool:
            config = asked(server, "/v2/models/e/config")[1]
            return bool(config["model_transaction_policy"]["decoupled"])

        eventually(decoupled)
        with Stream(server) as stream:
            stream.ask("e", grpc_inputs({"IN": floats(3)}))
            assert [stream.next().as_numpy("OUT").item() for _ in range(2)] == [3.0, 3.0]
        write(tmp_path, {"m": identity(batch=2)})
        assert load(server, "m") == (200, None)
        text = (
            "ensemble e allows maximum batch size 8, but it contains model m which only allows "
            "maximum batch size to be 2"
        )
        eventually(lambda: text in index(server)["e"][1])
        write(tmp_path, {"m": identity()})
        assert load(server, "m") == (200, None)
        eventually(lambda: index(server)["e"] == READY)
        assert infer(server, "e", {"IN": floats(1)}) == (200, {"OUT": [[1.0]]})


@pytest.mark.timeout(90)
def test_no_request_to_an_ensemble_is_lost_while_its_models_are_reloaded(tmp_path: Path) -> None:
    models = {"a": identity(), "b": identity(), "e": ensemble("IN", "OUT", CHAIN)}
    with explicit(write(tmp_path, models), load_models=("e",)) as server:
        stop, failures, answered = threading.Event(), [], [0] * 4

        def send(number: int) -> None:
            with grpcclient.InferenceServerClient(server.grpc_url) as client:
                while not stop.is_set():
                    try:
                        client.infer("e", grpc_inputs({"IN": floats(1)}))
                        answered[number] += 1
                    except InferenceServerException as why:
                        failures.append(str(why))

        senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for sender in senders:
            sender.start()
        for turn in range(30):
            before = sum(answered)
            name = "ab"[turn % 2]
            write(tmp_path, {name: identity(batch=9 + turn)})
            assert load(server, name) == (200, None)
            eventually(lambda before=before: sum(answered) > before)  # type: ignore[misc]
        stop.set()
        for sender in senders:
            sender.join()
        assert not failures, failures[:3]


def test_the_latest_version_is_called_or_the_one_that_is_asked_for(tmp_path: Path) -> None:
    code = "def answer(request): return out(Y=get(request, 'X') * {})"
    twice = python("X", "Y", code.format(2), more="version_policy { all { } }")
    files = twice | {"3/model.py": twice["1/model.py"].replace("* 2", "* 3")}
    models = {
        "m": files,
        "latest": one_step("m", "X=IN", "Y=OUT"),
        "first": one_step("m", "X=IN", "Y=OUT", version=1),
    }
    with serve(write(tmp_path, models)) as server:
        assert infer(server, "latest", {"IN": floats(1)})[1] == {"OUT": [[3.0]]}
        assert infer(server, "first", {"IN": floats(1)})[1] == {"OUT": [[2.0]]}


def test_with_namespaces_a_step_is_of_its_own_repository(tmp_path: Path) -> None:
    code = "def answer(request): return out(Y=get(request, 'X') * {})"
    for folder, factor in (("one", 2), ("two", 3)):
        models = {
            "m": python("X", "Y", code.format(factor)),
            f"e_{folder}": one_step("m", "X=IN", "Y=OUT"),
        }
        write(tmp_path / folder, models)
    with serve(tmp_path / "one", tmp_path / "two", model_namespacing=True) as server:
        assert infer(server, "e_one", {"IN": floats(1)})[1] == {"OUT": [[2.0]]}
        assert infer(server, "e_two", {"IN": floats(1)})[1] == {"OUT": [[3.0]]}


def test_a_key_for_some_models_touches_no_other_by_way_of_an_ensemble(tmp_path: Path) -> None:
    models = {
        "own-a": identity(),
        "other": identity(),
        "own-e": one_step("other"),
        "theirs": one_step("own-a"),
    }
    root, file = write(tmp_path / "models", models), tmp_path / "keys.txt"
    own = bearer(make_key(file, "own", "infer,manage", "own-*"))
    all_ = bearer(make_key(file, "all", "infer,manage"))
    with explicit(root, access=AccessOptions(api_keys=file), load_models=("own-a",)) as server:
        states = functools.partial(_states, server, all_)
        assert load(server, "own-e", shown=own)[0] == 200  # the operator composed it
        assert load(server, "theirs", shown=all_)[0] == 200
        assert unload(server, "own-e", True, own) == (200, None)
        eventually(lambda: states()["own-e"] == "UNAVAILABLE")
        assert states()["other"] == "READY"
        for dependents in (False, True):
            status, told = unload(server, "own-a", dependents, own)
            assert (status, told["error"]) == (
                403,
                "model 'own-a' is not unloaded: ensemble 'theirs', which the API key is not for, "
                "depends on it",
            )
        assert states()["own-a"] == states()["theirs"] == "READY"
        status, told = load(server, "own-e", json.dumps(written_by_hand("other")), own)
        assert (status, told["error"]) == (
            403,
            "the configuration sent for model 'own-e' calls model 'other', which the API key is "
            "not for",
        )
        assert unload(server, "own-a", False, all_) == (200, None)


def written_by_hand(model: str) -> dict[str, Any]:
    """An ensemble as a client might send it."""
    one = {"dataType": "TYPE_FP32", "dims": [-1]}
    return {
        "platform": "ensemble",
        "input": [{"name": "IN", **one}],
        "output": [{"name": "OUT", **one}],
        "ensembleScheduling": {
            "step": [
                {
                    "modelName": model,
                    "modelVersion": -1,
                    "inputMap": {"INPUT0": "IN"},
                    "outputMap": {"OUTPUT0": "OUT"},
                }
            ]
        },
    }


def _states(server: Server, shown: Mapping[str, str]) -> dict[str, str]:
    _, told = asked(server, "/v2/repository/index", {}, shown)
    return {entry["name"]: entry.get("state", "") for entry in told}


def why(server: Server, model: str) -> str:
    """Why a model does not serve; empty also before anything is known of it."""
    return index(server).get(model, ("", ""))[1]


def test_polling_takes_ensembles_in_when_their_models_come(tmp_path: Path) -> None:
    write(tmp_path, {"e": one_step("m")})
    chosen = {"model_control_mode": "poll", "poll_secs": 0.05, "exit_on_error": False}
    with serve(tmp_path, wait=None, **chosen) as server:
        eventually(lambda: "not available or ambiguous: m" in why(server, "e"))
        write(tmp_path, {"m": identity()})
        eventually(lambda: index(server).get("e") == READY)
        assert infer(server, "e", {"IN": np.ones((1, 1), np.float32)})[0] == 200
