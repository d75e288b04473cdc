"""Graphs whose steps are models of the server that runs them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
from tests.kserve.stubs import stubs
from tests.server.graphs import (
    DECOUPLED,
    SIGNATURE,
    ask,
    exchange,
    infer,
    node,
    predict,
    put,
    rows,
    sequence,
    step,
    write_identity,
    write_python,
)

from nerite.server.access_options import AccessOptions
from nerite.server.server import Server
from nerite.testing import serve


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    write_identity(root, "first", "A", "B")
    write_identity(root, "second", "B", "C")
    write_python(root, "plus", "x + 1")
    write_python(root, "double", "x * 2")
    (root / "many/1").mkdir(parents=True)
    (root / "many/config.pbtxt").write_text(DECOUPLED + SIGNATURE.format("A", "B"))
    write_python(root, "slow", "__import__('time').sleep(0.2) or x")
    with serve(root) as running:
        yield running


@pytest.fixture(autouse=True)
def no_connection(server: Server) -> Iterator[None]:
    """Whatever the steps of this server are asked, nothing is opened for it."""
    before = server.engine.counters()["graph_connections"]
    yield
    assert server.engine.counters()["graph_connections"] == before


def made(server: Server, graph: Any) -> str:
    status, told = put(server, "tests/made", graph)
    assert status in (200, 201), told
    return "tests/made"


def test_a_sequence_of_own_models(server: Server) -> None:
    plus, double = (
        step(predict(name), data="$response", mapPredictionsToInstances=True)
        for name in ("plus", "double")
    )
    before = server.engine.counters()["requests"]
    graph = made(server, sequence(plus, double, plus))
    assert ask(server, graph, rows(1, 4)) == (200, {"predictions": [[5.0], [11.0]]})
    assert server.engine.counters()["requests"] == before + 3


def test_a_condition_ends_a_sequence_with_the_answer_so_far(server: Server) -> None:
    second = step(predict("double"), data="$response", mapPredictionsToInstances=True)
    second["condition"] = "[@this].#(predictions.0.0>5)"
    graph = made(server, sequence(step(predict("plus")), second))
    assert ask(server, graph, rows(1)) == (200, {"predictions": [[2.0]]})
    assert ask(server, graph, rows(7)) == (200, {"predictions": [[16.0]]})


def test_a_switch_takes_the_first_condition_that_holds(server: Server) -> None:
    steps = [
        step(predict(name), condition=f'[@this].#(parameters.to=="{name}")')
        for name in ("plus", "double")
    ]
    graph = made(server, {"nodes": {"root": node("Switch", *steps)}})
    for name, expected in (("plus", 4.0), ("double", 6.0)):
        body = {**rows(3), "parameters": {"to": name}}
        assert ask(server, graph, body) == (200, {"predictions": [[expected]]})
    status, told = ask(server, graph, rows(3))
    assert (status, told["cause"]) == (
        404,
        "None of the routes matched with the switch condition",
    )


def test_an_ensemble_has_the_answers_of_its_steps(server: Server) -> None:
    steps = [step(predict("plus"), name="more"), step(predict("double"))]
    graph = made(server, {"nodes": {"root": node("Ensemble", *steps)}})
    expected = {"more": {"predictions": [[4.0]]}, "1": {"predictions": [[6.0]]}}
    assert ask(server, graph, rows(3)) == (200, expected)


def test_a_splitter_shares_out_exactly(server: Server) -> None:
    steps = [step(predict("plus"), weight=25), step(predict("double"), weight=75)]
    graph = made(server, {"nodes": {"root": node("Splitter", *steps)}})
    answers = [ask(server, graph, rows(3))[1]["predictions"][0][0] for _ in range(40)]
    assert (answers.count(4.0), answers.count(6.0)) == (10, 30)


@pytest.mark.parametrize("binary", [True, False])
def test_outputs_of_a_v2_step_are_the_inputs_of_the_next(server: Server, binary: bool) -> None:
    graph = sequence(step(infer("first")), step(infer("second"), data="$response"))
    path = made(server, graph)
    address = server.http_url.removeprefix("http://")
    with tritonclient.http.InferenceServerClient(f"{address}/graphs/{path}") as client:
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        sent = tritonclient.http.InferInput("A", x.shape, "FP32")
        sent.set_data_from_numpy(x, binary_data=binary)
        asked = [tritonclient.http.InferRequestedOutput("B", binary_data=binary)]
        answer = client.infer("any", [sent], outputs=asked, request_id="r7")
        np.testing.assert_array_equal(answer.as_numpy("C"), x)
        assert answer.get_response()["id"] == "r7"


def test_raw_tensors_stay_raw_from_step_to_step(server: Server) -> None:
    x = np.arange(1000, dtype=np.float32).reshape(1, 1000)
    graph = sequence(step(infer("first")), step(infer("second/versions/1"), data="$response"))
    path = made(server, graph)
    sent = tritonclient.http.InferInput("A", x.shape, "FP32")
    sent.set_data_from_numpy(x)
    body, length = tritonclient.http.InferenceServerClient.generate_request_body(
        [sent], outputs=[tritonclient.http.InferRequestedOutput("B")]
    )
    status, headers, answer = exchange(
        server, "POST", f"/graphs/{path}", body, Inference_Header_Content_Length=str(length)
    )
    assert status == 200
    assert headers["content-type"] == "application/octet-stream"
    begins = int(headers["inference-header-content-length"])
    told = json.loads(answer[:begins])
    assert told["outputs"][0]["parameters"]["binary_data_size"] == x.nbytes
    assert answer[begins:] == x.tobytes()


def test_failures_are_those_of_the_routes(server: Server) -> None:
    """What a step answers is what the model's own route does, status and body."""
    for path, body in [
        (predict("plus"), rows(-1)),
        (predict("nobody"), rows(1)),
        (predict("plus"), {"instances": "x"}),
        (predict("many"), rows(1)),
        (predict("plus/versions/9"), rows(1)),
        (infer("first"), {"inputs": []}),
        (infer("nobody"), {"inputs": []}),
        (infer("many"), {"inputs": []}),
        (infer("first/versions/9"), {"inputs": []}),
    ]:
        text = json.dumps(body).encode()
        direct = exchange(server, "POST", path, text, Content_Type="application/json")
        assert direct[0] >= 400, direct
        graph = made(server, sequence(step(path)))
        through = exchange(server, "POST", f"/graphs/{graph}", text)
        assert (through[0], through[2]) == (direct[0], direct[2]), path
        assert through[1]["content-type"] == direct[1]["content-type"]


def test_a_hard_step_that_fails_ends_a_sequence_and_a_soft_one_does_not(server: Server) -> None:
    failing, then = step(predict("plus")), step(predict("double"))
    graph = made(server, sequence({**failing, "dependency": "Hard"}, {**then}))
    assert ask(server, graph, rows(-1)) == (503, {"error": "it is below zero"})
    mapped = {**then, "data": "$response", "mapPredictionsToInstances": True}
    graph = made(server, sequence(step(predict("nobody")), step(predict("double"))))
    assert ask(server, graph, rows(2)) == (200, {"predictions": [[4.0]]})
    graph = made(server, sequence(step(predict("nobody")), mapped))
    assert ask(server, graph, rows(2))[0] == 400


def test_a_graph_may_be_a_step_of_a_graph_but_not_of_itself(server: Server) -> None:
    assert put(server, "inner", sequence(step(predict("plus"))))[0] in (200, 201)
    again = step("/graphs/default/inner", data="$response", mapPredictionsToInstances=True)
    graph = made(server, sequence(step("/graphs/default/inner/any/path"), again))
    assert ask(server, graph, rows(1)) == (200, {"predictions": [[3.0]]})
    for circle in (
        sequence(step("/graphs/tests/made")),
        {"nodes": {"root": node("Ensemble", *[step("/graphs/tests/made")] * 3)}},
        {"nodes": {"root": node("Ensemble", step(predict("plus")), *[{"nodeName": "root"}] * 3)}},
    ):
        status, told = ask(server, made(server, circle), rows(1))
        assert (status, "a circle" in told["cause"]) == (500, True), told
    lost = made(server, sequence(step("/graphs/no/where")))
    assert "graph 'no/where' is not known" in ask(server, lost, rows(1))[1]["cause"]


@pytest.mark.parametrize(
    "path", ["/v1/models/plus", "/v2/models/first/generate", "/v2", "/metrics", "/v2/logging"]
)
def test_a_path_that_is_no_inference_says_what_would_be(server: Server, path: str) -> None:
    status, told = ask(server, made(server, sequence(step(path))), rows(1))
    assert status == 500
    assert told["error"] == "Failed to process request"
    assert told["cause"].startswith(f'the URL "{path}" is not usable: a path of this server is ')


def test_a_graph_that_takes_too_long_is_late(server: Server) -> None:
    slow = step(predict("slow"))
    status, told = ask(server, made(server, sequence(slow, timeoutSecs=0.02)), rows(1))
    assert status == 504
    assert told == {"error": "graph 'tests/made': the graph took longer than 0.02 s"}
    status, told = ask(server, made(server, sequence(slow, stepTimeoutSecs=0.02)), rows(1))
    assert (status, told["cause"]) == (
        500,
        "/v1/models/slow:predict gave no answer within 0.02 s",
    )


def test_a_compressed_body_is_a_body(server: Server) -> None:
    graph = made(server, sequence(step(predict("plus")), propagateHeaders=["Content-.*", "Accept"]))
    body = gzip.compress(json.dumps(rows(1)).encode())
    told = exchange(
        server, "POST", f"/graphs/{graph}", body, Content_Encoding="gzip", Accept_Encoding="gzip"
    )
    assert (told[0], json.loads(told[2])) == (200, {"predictions": [[2.0]]})


def test_headers_that_are_propagated_reach_models_and_others(tmp_path: Path) -> None:
    write_python(tmp_path, "told", "x")
    code = (tmp_path / "told/1/model.py").read_text()
    seen = tmp_path / "seen"
    code = code.replace(
        "x = pb_utils",
        f"pathlib.Path({str(seen)!r}).write_text(request.parameters()); x = pb_utils",
    )
    (tmp_path / "told/1/model.py").write_text("import pathlib\n" + code)
    access = AccessOptions(http_header_forward="x-.*")
    with stubs({"*": {"echo": True}}) as others, serve(tmp_path, access=access) as server:
        steps = [step(predict("told")), step(f"{others.url}/other")]
        made(server, sequence(*steps, propagateHeaders=["^X-Team"]))
        status, _ = ask(server, "tests/made", rows(1), X_Team="red", X_Else="no", X_Request_Id="r1")
        assert status == 200
        told = json.loads(seen.read_text())
        assert {key.lower(): value for key, value in told.items()} == {
            "x-team": "red",
            "x-request-id": "r1",
        }
        assert others.calls[0].told() == {
            "content-type": "application/json",
            "x-team": "red",
            "x-request-id": "r1",
        }
        # What is outside is asked over a connection, which is kept.
        assert ask(server, "tests/made", rows(1))[0] == 200
        assert server.engine.counters()["graph_connections"] == 1
        assert others.connections == 1
