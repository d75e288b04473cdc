# SPDX-License-Identifier: Apache-2.0
"""BYTES elements that are no text, inside JSON: `{"b64": "..."}` through every door, both ways."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import tritonclient.http
from tests.model_folders import write_model

from nerite.server.server import Server
from nerite.testing import serve

CONFIG = """backend: "identity" max_batch_size: {batch}
input {{ name: "X" data_type: TYPE_STRING dims: [ {dims} ] }}
output {{ name: "Y" data_type: TYPE_STRING dims: [ {dims} ] }}
"""
TWO = """backend: "identity" max_batch_size: 4
input { name: "A" data_type: TYPE_INT32 dims: [ 1 ] }
input { name: "B" data_type: TYPE_STRING dims: [ 1 ] }
output { name: "C" data_type: TYPE_INT32 dims: [ 1 ] }
output { name: "D" data_type: TYPE_STRING dims: [ 1 ] }
"""
NAMED = CONFIG.format(batch=4, dims=1).replace('"X"', '"b64"')
DECOUPLED = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            sender = request.get_response_sender()
            for _ in range(2):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("Y", x)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
#: No text at all, half a character, text, nothing, every byte.
ELEMENTS = (b"\xff\x00\xfe", b"\xc3", "grün".encode(), b"", bytes(range(256)))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("base64")
    flat = CONFIG.format(batch=0, dims=-1)
    write_model(root / "flat", {"config.pbtxt": flat, "1/": None})
    write_model(root / "rows", {"config.pbtxt": CONFIG.format(batch=8, dims=1), "1/": None})
    write_model(root / "two", {"config.pbtxt": TWO, "1/": None})
    write_model(root / "named", {"config.pbtxt": NAMED, "1/": None})
    stream = flat.replace("identity", "python") + "model_transaction_policy { decoupled: true }"
    write_model(root / "stream", {"config.pbtxt": stream, "1/model.py": DECOUPLED})
    with serve(root) as running:
        yield running


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


SENT = [b64(each) for each in ELEMENTS]


def post(server: Server, path: str, document: Any) -> tuple[int, bytes]:
    try:
        with urlopen(Request(server.http_url + path, json.dumps(document).encode())) as answer:
            return answer.status, answer.read()
    except HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def told(server: Server, path: str, document: Any) -> Any:
    status, body = post(server, path, document)
    assert status == 200, body
    return json.loads(body)


def refusal(server: Server, path: str, document: Any) -> str:
    status, body = post(server, path, document)
    assert status == 400, body
    return str(json.loads(body)["error"])


def tensor(data: Any, count: int) -> dict[str, Any]:
    return {"name": "X", "datatype": "BYTES", "shape": [count], "data": data}


def test_elements_of_v2_arrive_as_the_bytes_that_they_are(server: Server) -> None:
    """Sent as base64, read back as binary data by Triton's client."""
    nested = [[SENT[0], SENT[1]], ["as text", SENT[3], [SENT[4]]]]
    wanted = [ELEMENTS[0], ELEMENTS[1], b"as text", ELEMENTS[3], ELEMENTS[4]]
    document = {
        "parameters": {"binary_data_output": True},
        "inputs": [tensor(nested, len(wanted))],
    }
    status, body = post(server, "/v2/models/flat/infer", document)
    assert status == 200
    answer = tritonclient.http.InferResult.from_response_body(
        body, header_length=body.index(b"}}]}") + 4
    )
    assert answer.as_numpy("Y").tolist() == wanted


@pytest.mark.parametrize(
    "asking",
    [
        {"parameters": {"base64_data_output": True}},
        {"outputs": [{"name": "Y", "parameters": {"base64_data": True}}]},
        {
            "parameters": {"binary_data_output": True},
            "outputs": [{"name": "Y", "parameters": {"base64_data": True, "binary_data": False}}],
        },
    ],
)
def test_elements_of_v2_are_answered_as_base64_where_that_is_asked_for(
    server: Server, asking: dict[str, Any]
) -> None:
    plain = {**asking, "inputs": [tensor(SENT, len(SENT))]}
    (output,) = told(server, "/v2/models/flat/infer", plain)["outputs"]
    assert output == {"name": "Y", "datatype": "BYTES", "shape": [5], "data": SENT}


def test_without_the_parameter_answers_are_as_tritons(server: Server) -> None:
    for document in (
        {"inputs": [tensor(SENT, len(SENT))]},
        {
            "parameters": {"base64_data_output": True},  # of outputs that are not listed
            "outputs": [{"name": "Y"}],
            "inputs": [tensor(SENT, len(SENT))],
        },
    ):
        _, body = post(server, "/v2/models/flat/infer", document)
        assert b'"data":["\xff\\u0000\xfe","\xc3","gr\xc3\xbcn",""' in body


def test_rows_of_v1(server: Server) -> None:
    path = "/v1/models/rows:predict"
    for instances in (SENT, [[each] for each in SENT], [{"X": each} for each in SENT]):
        asked = {"instances": instances, "base64_data_output": True}
        assert told(server, path, asked) == {"predictions": SENT}
    texts = {"instances": [b64(b"a"), b64(b"b")]}
    assert told(server, path, texts) == {"predictions": ["a", "b"]}
    columns = {"inputs": {"X": SENT}, "base64_data_output": True}
    assert told(server, path, columns) == {"predictions": SENT}
    refused = refusal(server, path, {"instances": SENT})
    assert refused == (
        "output 'Y' of model 'rows' has bytes that are not UTF-8; ask for base64 with "
        '"base64_data_output": true, or for binary data at /v2/models/rows/infer'
    )


def test_rows_of_v1_that_are_longer_than_a_batch(server: Server) -> None:
    many = [b64(bytes([0xFF, index])) for index in range(30)]
    asked = {"instances": many, "base64_data_output": True}
    assert told(server, "/v1/models/rows:predict", asked) == {"predictions": many}


def test_rows_of_v1_with_several_inputs(server: Server) -> None:
    rows = [{"A": 1, "B": SENT[0]}, {"A": 2, "B": "text"}]
    asked = {"instances": rows, "base64_data_output": True}
    assert told(server, "/v1/models/two:predict", asked)["predictions"] == [
        {"C": 1, "D": SENT[0]},
        {"C": 2, "D": b64(b"text")},
    ]


def test_an_input_may_be_called_b64(server: Server) -> None:
    path = "/v1/models/named:predict"
    assert told(server, path, {"instances": [{"b64": "YQ=="}]}) == {"predictions": ["YQ=="]}
    nested = {"instances": [{"b64": {"b64": "YQ=="}}]}
    assert told(server, path, nested) == {"predictions": ["a"]}


def test_generate(server: Server) -> None:
    for asked in (
        {"X": SENT, "base64_data_output": True},
        {"parameters": {"X": SENT, "base64_data_output": True}},
    ):
        assert told(server, "/v2/models/flat/generate", asked)["Y"] == SENT
    asked = {"X": SENT[0], "base64_data_output": True}
    assert told(server, "/v2/models/flat/generate", asked)["Y"] == SENT[0]
    assert told(server, "/v2/models/flat/generate", {"X": b64(b"text")})["Y"] == "text"
    _, body = post(server, "/v2/models/stream/generate_stream", asked)
    events = [json.loads(event.removeprefix(b"data: ")) for event in body.split(b"\n\n") if event]
    assert [event["Y"] for event in events] == [SENT[0]] * 2


WRONG = (
    ({"b64": 5}, 'is an object with "b64", which must be a string and the only member'),
    ({"b64": "", "a": 1}, 'is an object with "b64", which must be a string and the only member'),
    ({"b64": "a-_="}, "is no base64: '-' at 1 is none of its letters"),
    ({"b64": "YWJjZ"}, "is no base64: it ends in the middle of a byte"),
)


@pytest.mark.parametrize(("element", "why"), WRONG)
def test_what_is_no_base64_is_told_with_its_place(server: Server, element: Any, why: str) -> None:
    expected = f"an element of input 'X' for model 'flat' {why}"
    asked = {"inputs": [tensor([element], 1)]}
    assert refusal(server, "/v2/models/flat/infer", asked) == expected
    assert refusal(server, "/v2/models/flat/generate", {"X": [element]}) == expected
    refused = refusal(server, "/v1/models/rows:predict", {"instances": [[element]]})
    assert refused == f"an element of input 'X' of model 'rows' {why}"


def test_another_object_is_no_element(server: Server) -> None:
    asked = {"inputs": [tensor([{"text": "a"}], 1)]}
    assert refusal(server, "/v2/models/flat/infer", asked) == (
        "Unable to parse JSON bytes array: attempt to access JSON non-string as string"
    )
    refused = refusal(server, "/v1/models/rows:predict", {"instances": [[{"text": "a"}]]})
    assert "input 'X' of model 'rows' is BYTES: a string is expected, got an object" in refused


@pytest.mark.parametrize(
    ("asking", "why"),
    [
        (
            {"parameters": {"binary_data_output": True, "base64_data_output": True}},
            "Output can't set both 'binary_data_output' and 'base64_data_output'",
        ),
        (
            {"outputs": [{"name": "Y", "parameters": {"base64_data": True, "binary_data": True}}]},
            "Output can't set both 'binary_data' and 'base64_data'",
        ),
        (
            {"outputs": [{"name": "Y", "parameters": {"base64_data": "yes"}}]},
            "Unable to parse 'base64_data': attempt to access JSON non-boolean as boolean",
        ),
        (
            {
                "outputs": [
                    {"name": "Y", "parameters": {"base64_data": True, "shared_memory_region": "r"}}
                ]
            },
            "Output can't set both 'shared_memory_region' and 'base64_data'",
        ),
    ],
)
def test_an_answer_has_one_form(server: Server, asking: dict[str, Any], why: str) -> None:
    asked = {"inputs": [tensor(["a"], 1)], **asking}
    assert refusal(server, "/v2/models/flat/infer", asked) == why
    refused = refusal(
        server, "/v1/models/rows:predict", {"instances": ["a"], "base64_data_output": 1}
    )
    assert refused == '"base64_data_output" must be true or false'
