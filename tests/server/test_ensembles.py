"""Ensembles whose steps answer once: what reaches the steps, what comes out, what is counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tests.server.ensembles import (
    SHARED,
    asked,
    ensemble,
    floats,
    grpc_inputs,
    identity,
    infer,
    python,
    statistics,
    step,
    write,
)
from tritonclient.utils import shared_memory

from nerite import Server
from nerite.testing import serve

TWICE = "def answer(request): return out(Y=get(request, 'X') * 2)"
PLUS = "def answer(request): return out(Y=get(request, 'X') + 1)"
#: Answers only once its counterpart runs too.
MEET = """def answer(request):
    SHARED["meeting"].wait(10)
    return out(Y=get(request, 'X') + 1)
"""
SUM = """def answer(request):
    b = get(request, 'B')
    return out(S=get(request, 'A') + (100 if b is None else b))
"""
NOTES = """def answer(request):
    SHARED["notes"].append((request.request_id(), request.parameters(), request.timeout()))
    return out(Y=get(request, 'X'))
"""
#: Answers, fails, or leaves its output out, as its input says.
MOODY = """def answer(request):
    word = get(request, 'X').item().decode()
    if word == 'nothing':
        return out()
    if word == 'raise':
        raise ValueError('it broke')
    return fail(word, getattr(pb_utils.TritonError, word, 0)) if word.isupper() else out(
        Y=get(request, 'X'))
"""
MODELS = {
    "twice": python("X", "Y", TWICE),
    "plus": python("X", "Y", PLUS),
    "left": python("X", "Y", MEET),
    "right": python("X", "Y", MEET),
    "sum": python("A B?", "S", SUM),
    "notes": python("X", "Y", NOTES),
    "moody": python("X:STRING[1]", "Y:STRING[1]", MOODY, batch=0),
    "pass": identity("X:STRING[1]", "Y:STRING[1]", batch=0),
    "id": identity(),
    "flat": identity(batch=0),
    "labelled": {
        "config.pbtxt": identity()["config.pbtxt"].replace(
            'name: "OUTPUT0"', 'name: "OUTPUT0" label_filename: "l.txt"'
        ),
        "l.txt": "cat\ndog\nbird\n",
        "1/": None,
    },
    "chain": ensemble("IN", "OUT", [step("plus", "X=t", "Y=OUT"), step("twice", "X=IN", "Y=t")]),
    "branches": ensemble(
        "IN",
        "OUT",
        [
            step("left", "X=IN", "Y=l"),
            step("right", "X=IN", "Y=r"),
            step("sum", "A=l B=r", "S=OUT"),
        ],
    ),
    "forwards": ensemble(
        "IN", "OUT", [step("notes", "X=IN", "Y=t"), step("notes", "X=t", "Y=OUT")]
    ),
    "optional": ensemble("A B?", "OUT", [step("sum", "A=A B=B", "S=OUT")]),
    "nested": ensemble(
        "IN", "OUT", [step("chain", "IN=IN", "OUT=t"), step("chain", "IN=t", "OUT=OUT")]
    ),
    "two": ensemble(
        "IN",
        "ONE TWO",
        [
            step("plus", "X=IN", "Y=ONE"),
            step("twice", "X=IN", "Y=t"),
            step("id", "INPUT0=t", "OUTPUT0=TWO"),
        ],
    ),
    "moods": ensemble("IN:STRING[1]", "OUT:STRING[1]", [step("moody", "X=IN", "Y=OUT")], batch=0),
    "outer": ensemble(
        "IN:STRING[1]", "OUT:STRING[1]", [step("moods", "IN=IN", "OUT=OUT")], batch=0
    ),
    "stuck": ensemble(
        "IN:STRING[1]",
        "OUT:STRING[1]",
        [step("moody", "X=IN", "Y=t"), step("pass", "X=t", "Y=OUT")],
        batch=0,
    ),
    "flat_of_batching": ensemble("IN", "OUT", [step("id", "INPUT0=IN", "OUTPUT0=OUT")], batch=0),
    "batching_of_flat": ensemble("IN", "OUT", [step("flat", "INPUT0=IN", "OUTPUT0=OUT")]),
    "classes": ensemble(
        "IN",
        "OUT",
        [step("id", "INPUT0=IN", "OUTPUT0=t"), step("labelled", "INPUT0=t", "OUTPUT0=OUT")],
    ),
    "copies": ensemble(
        "IN",
        "OUT",
        [
            step("id", "INPUT0=IN", "OUTPUT0=a"),
            step("id", "INPUT0=a", "OUTPUT0=b"),
            step("id", "INPUT0=b", "OUTPUT0=OUT"),
        ],
    ),
    "texts": ensemble(
        "text_input:STRING[1]",
        "text_output:STRING[1]",
        [step("pass", "X=text_input", "Y=text_output")],
        batch=0,
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = write(tmp_path_factory.mktemp("ensembles"), MODELS)
    with serve(root, allow_client_shm=True) as running:
        yield running


def words(text: str) -> dict[str, Any]:
    return {"IN": np.array([text])}


def test_steps_run_in_the_order_of_their_tensors(server: Server) -> None:
    assert infer(server, "chain", {"IN": floats(1, 2, 3, 4, rows=2)}) == (
        200,
        {"OUT": [[3.0, 5.0], [7.0, 9.0]]},
    )
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        result = client.infer("chain", grpc_inputs({"IN": floats(5)}), request_id="r")
        assert result.get_response().id == "r"
        assert result.as_numpy("OUT").tolist() == [[11.0]]


def test_branches_run_side_by_side(server: Server) -> None:
    SHARED["meeting"] = threading.Barrier(2)
    assert infer(server, "branches", {"IN": floats(1)}) == (200, {"OUT": [[4.0]]})


def test_id_parameters_and_timeout_reach_every_step(server: Server) -> None:
    notes = SHARED["notes"] = []
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        client.infer(
            "forwards",
            grpc_inputs({"IN": floats(1)}),
            request_id="r7",
            timeout=4_000_000,
            parameters={"colour": "red", "n": 3},
        )
    (first, second) = notes
    assert first == second
    assert first[0] == "r7"
    assert first[2] == 4_000_000
    assert '"colour"' in first[1] if isinstance(first[1], str) else first[1]["colour"] == "red"


def test_an_optional_input_that_is_left_out_is_left_out_for_the_step(server: Server) -> None:
    assert infer(server, "optional", {"A": floats(1)}) == (200, {"OUT": [[101.0]]})
    assert infer(server, "optional", {"A": floats(1), "B": floats(2)}) == (200, {"OUT": [[3.0]]})


def test_ensembles_within_ensembles(server: Server) -> None:
    assert infer(server, "nested", {"IN": floats(1)}) == (200, {"OUT": [[7.0]]})


def test_only_steps_that_the_outputs_asked_for_need_are_run(server: Server) -> None:
    before = {name: statistics(server, name)["inference_count"] for name in ("plus", "id")}
    assert infer(server, "two", {"IN": floats(3)}, outputs=[{"name": "TWO"}]) == (
        200,
        {"TWO": [[6.0]]},
    )
    assert statistics(server, "plus")["inference_count"] == before["plus"]
    assert statistics(server, "id")["inference_count"] == before["id"] + 1
    assert infer(server, "two", {"IN": floats(3)}) == (200, {"ONE": [[4.0]], "TWO": [[6.0]]})


@pytest.mark.parametrize(
    ("word", "status", "text"),
    [
        ("UNAVAILABLE", 503, "in ensemble 'moods', UNAVAILABLE"),
        ("INVALID_ARG", 400, "in ensemble 'moods', INVALID_ARG"),
        ("NOT_FOUND", 404, "in ensemble 'moods', NOT_FOUND"),
    ],
)
def test_a_step_that_fails_fails_the_ensemble_with_its_code(
    word: str, status: int, text: str, server: Server
) -> None:
    assert infer(server, "moods", words(word)) == (status, text)
    assert infer(server, "outer", words(word)) == (status, f"in ensemble 'outer', {text}")


def test_a_step_that_raises_is_told_with_its_traceback(server: Server) -> None:
    status, text = infer(server, "moods", words("raise"))
    begin = "in ensemble 'moods', Failed to process the request(s) for model 'moody_0', message: "
    assert (status, text.partition("ValueError")[0]) == (500, begin)


def test_a_request_that_no_step_can_move_on_is_told_so(server: Server) -> None:
    text = (
        "unexpected deadlock, at least one output is not set while no more ensemble steps can be "
        "made"
    )
    assert infer(server, "stuck", words("fine"))[0] == 200
    assert infer(server, "stuck", words("nothing"), id="x9") == (
        400,
        f"in ensemble 'stuck', [request id: x9] {text}",
    )
    assert infer(server, "stuck", words("nothing"))[1].endswith(
        f"[request id: <id_unknown>] {text}"
    )
    # The last step may leave its output out, as any model may.
    assert infer(server, "moods", words("nothing")) == (200, {})


def test_the_batch_dimension_comes_and_goes_where_only_one_side_has_it(server: Server) -> None:
    flat = np.array([1, 2], np.float32)
    assert infer(server, "flat_of_batching", {"IN": flat}) == (200, {"OUT": [1.0, 2.0]})
    assert infer(server, "batching_of_flat", {"IN": floats(1, 2)}) == (200, {"OUT": [[1.0, 2.0]]})
    status, text = infer(server, "batching_of_flat", {"IN": floats(1, 2, rows=2)})
    assert status == 400
    assert text.startswith(
        "in ensemble 'batching_of_flat', [request id: <id_unknown>] unexpected shape for input "
        "'INPUT0' for model 'flat'. Expected [-1], got [2,1]."
    )


def test_what_a_client_sends_wrong_is_told_of_the_ensemble_itself(server: Server) -> None:
    assert infer(server, "chain", {"NO": floats(1)})[1] == (
        "unexpected inference input 'NO' for model 'chain'"
    )
    assert infer(server, "chain", {"IN": floats(1)}, outputs=[{"name": "t"}])[1] == (
        "unexpected inference output 't' for model 'chain'"
    )


def test_classes_are_those_of_the_step_that_writes_the_output(server: Server) -> None:
    outputs = [{"name": "OUT", "parameters": {"classification": 2}}]
    status, told = infer(server, "classes", {"IN": floats(1, 3, 2)}, outputs=outputs)
    assert (status, told) == (200, {"OUT": [["3.000000:1:dog", "2.000000:2:bird"]]})


def test_tensors_pass_between_steps_without_a_copy(server: Server) -> None:
    def counted() -> dict[str, int]:
        return dict(server.engine.counters())

    before = counted()
    data = np.arange(1 << 16, dtype=np.float32).reshape(1, -1)
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        result = client.infer("copies", grpc_inputs({"IN": data}))
    assert (result.as_numpy("OUT") == data).all()
    after = counted()
    assert after["borrowed_inputs"] - before["borrowed_inputs"] == 3
    assert after["gathered_bytes"] == before["gathered_bytes"]


def test_shared_memory_through_an_ensemble(server: Server) -> None:
    data = floats(1, 2)
    region = shared_memory.create_shared_memory_region("ens", "/nerite_ens", 16)
    try:
        shared_memory.set_shared_memory_region(region, [data])
        with grpcclient.InferenceServerClient(server.grpc_url) as client:
            client.register_system_shared_memory("ens", "/nerite_ens", 16)
            one = grpcclient.InferInput("IN", [1, 2], "FP32")
            one.set_shared_memory("ens", 8)
            out = grpcclient.InferRequestedOutput("OUT")
            out.set_shared_memory("ens", 8, offset=8)
            client.infer("chain", [one], outputs=[out])
            client.unregister_system_shared_memory("ens")
        (got,) = shared_memory.get_contents_as_numpy(region, np.float32, [1, 2], offset=8)
        assert got.tolist() == [3.0, 5.0]
    finally:
        shared_memory.destroy_shared_memory_region(region)


def test_v1_and_generate_lead_through_ensembles_too(server: Server) -> None:
    assert asked(server, "/v1/models/chain:predict", {"instances": [[1, 2], [3, 4]]}) == (
        200,
        {"predictions": [[3.0, 5.0], [7.0, 9.0]]},
    )
    status, told = asked(server, "/v2/models/texts/generate", {"text_input": "hello"})
    assert (status, told["text_output"]) == (200, "hello")


def test_metadata_and_document_tell_of_an_ensemble_as_of_any_model(server: Server) -> None:
    _, told = asked(server, "/v2/models/chain")
    assert (told["platform"], told["versions"]) == ("ensemble", ["1"])
    assert told["inputs"] == [{"name": "IN", "datatype": "FP32", "shape": [-1, -1]}]
    _, document = asked(server, "/openapi.json")
    assert "/v2/models/chain/infer" in document["paths"]


def test_an_ensemble_counts_its_requests_and_the_time_of_its_steps(server: Server) -> None:
    before = statistics(server, "two"), statistics(server, "twice")
    infer(server, "two", {"IN": floats(1, 2, 3, rows=3)})
    infer(server, "two", {"NO": floats(1)})
    after = statistics(server, "two"), statistics(server, "twice")

    def grown(key: str, part: str = "count") -> list[int]:
        pairs = zip(before, after, strict=True)
        return [b["inference_stats"][key][part] - a["inference_stats"][key][part] for a, b in pairs]

    for key in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert grown(key) == [1, 1], key
    assert grown("fail") == [1, 0]
    whole, part = grown("compute_infer", "ns")
    assert whole > part > 0
    assert grown("success", "ns")[0] >= grown("success", "ns")[1]
    for key, count in (("inference_count", 3), ("execution_count", 1)):
        assert [b[key] - a[key] for a, b in zip(before, after, strict=True)] == [count, count]
    assert any(size["batch_size"] == 3 for size in after[0]["batch_stats"])


def test_failures_of_ensembles_are_counted_as_other(server: Server) -> None:
    infer(server, "moods", words("INTERNAL"))
    with urlopen(server.metrics_url) as answer:
        lines = answer.read().decode().splitlines()
    failed = {
        line.partition('reason="')[2].partition('"')[0]: float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("nv_inference_request_failure") and 'model="moods"' in line
    }
    assert failed["OTHER"] > 0
    assert failed["BACKEND"] == failed["REJECTED"] == failed["CANCELED"] == 0
