# SPDX-License-Identifier: Apache-2.0
"""Every defect of KServe's own server that we know of, and the test that Nerite passes instead.

`DEFECTS` is the list: what KServe does, and where it is shown that Nerite does not. Recorded
exchanges are named by their id. What no other module shows is shown below.
"""

from __future__ import annotations

import http.client
import importlib
import json
from collections.abc import Iterator
from typing import Any, Final

import grpc
import ml_dtypes
import numpy as np
import pytest
import skops.io
import tritonclient.grpc as grpcclient
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from tests.server import test_kserve_vectors, test_v1_vectors
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from nerite.server.server import Server
from nerite.testing import serve

BEHAVIOUR, AS_KSERVE = "server.test_kserve_behaviour", "server.test_as_kserve"
HERE, V1, SIDECARS = "server.test_kserve_defects", "server.test_v1", "kserve.test_gateway_sidecars"

#: What KServe's server does wrong -> module and test, or the id of a recorded exchange.
DEFECTS: Final[tuple[tuple[str, str, str], ...]] = (
    # Content types.
    ("V1: a charset or curl's default type hands raw bytes to the model, 500",
     V1, "test_json_is_json_whatever_its_content_type"),
    ("V1: an upper-case type too", "", "v1/type-json-upper"),
    ("V1: a form's type too", "", "v1/type-x-www-form-urlencoded"),
    ("V2: JSON of another or no type is taken for bytes",
     BEHAVIOUR, "test_json_is_json_whatever_its_content_type"),
    ("V2: answers with binary tensors have no content type",
     BEHAVIOUR, "test_every_answer_has_its_content_type"),
    ("a gzip body is refused, V1", "", "v1/gzip"),
    ("a gzip body is refused, V2", "", "v2/gzip"),
    ("answers are never compressed",
     "server.test_compression", "test_http_bodies_in_every_encoding"),
    ("an event without time is read as plain JSON", "", "v1/ce-structured-no-time"),
    # Statuses.
    ("422 with `detail` for bad JSON", "", "v2/infer-bad-json"),
    ("422 for a body that is a list", "", "v2/infer-list"),
    ("422 for an input without shape", "", "v2/infer-no-shape"),
    ("422 for an input without data", "", "v2/infer-no-data"),
    ("422 for a shape of floats", "", "v2/infer-shape-float"),
    ("422 for an id that is a number", "", "v2/infer-number-id"),
    ("500 for the wrong number of features, V2", "", "v2/infer-wrong-width"),
    ("500 for the wrong number of features, V1",
     V1, "test_what_does_not_fit_is_the_clients_mistake"),
    ("500 for an empty list of inputs", "", "v2/infer-empty-inputs"),
    ("500 for a negative shape", "", "v2/infer-shape-negative"),
    ("500 for shape and data that do not fit",
     BEHAVIOUR, "test_a_mistake_of_the_client_is_400_with_one_text"),
    ("500 for a text among numbers", "", "v2/echo-int-text"),
    ("500 for a header length that is no number", "", "binary/length-text"),
    ("500 for missing instances", "", "v1/predict-empty-object"),
    ("500 for inputs that are no list", "", "v1/predict-inputs-not-list"),
    ("500 for rows of unequal lengths", "", "v1/predict-ragged"),
    ("500 for a body of null", "", "v1/predict-null-body"),
    ("500 for rows as objects", "", "v1/predict-dicts"),
    ("the connection is closed after a 500 without a word",
     BEHAVIOUR, "test_a_mistake_of_the_client_is_400_with_one_text"),
    ("errors are the text of a Python exception",
     BEHAVIOUR, "test_a_mistake_of_the_client_is_400_with_one_text"),
    ("/v2/ is a redirect", "", "health/v2-slash"),
    # Ids and fields of answers.
    ("an id is made up, an empty one replaced",
     BEHAVIOUR, "test_an_id_comes_back_and_none_is_invented"),
    ("a model's answer without an id is 500",
     BEHAVIOUR, "test_an_id_comes_back_and_none_is_invented"),
    ("`model_version` and `parameters` are null", BEHAVIOUR, "test_an_answer_has_no_nulls"),
    ("metadata has no tensors, no versions, no platform",
     BEHAVIOUR, "test_metadata_tells_the_tensors_and_the_statistics_count"),
    ("V1 has no metadata", V1, "test_models_are_listed_with_their_state_and_metadata"),
    # Versioned paths.
    ("paths with a version are 501", BEHAVIOUR, "test_versions_are_paths"),
    ("metadata of a version is 501", "", "health/v2-version"),
    ("gRPC ignores the version", HERE, "test_grpc_heeds_the_version"),
    # Repository.
    ("the repository index is not routed", BEHAVIOUR, "test_the_repository_has_an_index"),
    ("gRPC: loading a loaded model is INTERNAL", "", "grpc/load"),
    ("gRPC: unloading works and answers INTERNAL, loading an unknown one is UNKNOWN",
     HERE, "test_grpc_loads_and_unloads_and_says_so"),
    ("gRPC: its own messages for that, which nobody else understands",
     HERE, "test_kserves_own_messages_load_and_unload"),
    ("one model a server", "server.test_repository_control", "test_a_star_loads_all"),
    # Readiness.
    ("ready without any model", BEHAVIOUR, "test_a_model_that_failed_makes_the_server_unready"),
    ("ready although one model is not, REST", "", "health/v2-ready"),
    ("ready although one model is not, gRPC", "", "grpc/ready"),
    ("gRPC: a model that is not ready is run", "", "grpc/infer-not-ready"),
    ("a model folder without a model starts all the same",
     "cli.test_kserve_arguments", "test_a_model_dir_without_a_model_is_told_with_what_was_found"),
    ("probes are silent while a model computes",
     BEHAVIOUR, "test_probes_are_answered_while_a_model_computes"),
    ("statistics are not there", "", "health/v2-stats"),
    # Data.
    ("null is a number", "", "v2/echo-null"),
    ("infinity is answered as null", "", "v2/echo-fp32-overflow"),
    ("floats for whole numbers are cut", HERE, "test_floats_for_whole_numbers_are_refused"),
    ("a size beyond the body is not noticed", "", "binary/size-large"),
    ("trailing or missing bytes go unnoticed",
     BEHAVIOUR, "test_binary_bytes_that_are_too_few_or_too_many_are_noticed"),
    ("FP16 is refused in JSON", "", "v2/infer-fp16"),
    ("BF16 is not supported", HERE, "test_half_of_a_float_is_a_number_in_both_forms"),
    ("labels that are texts are 500", HERE, "test_labels_that_are_texts_are_answered"),
    ("gRPC: requested outputs are ignored",
     BEHAVIOUR, "test_an_unknown_output_is_refused_on_both_protocols"),
    ("gRPC: the same, as recorded", "", "grpc/infer-outputs"),
    # gRPC.
    ("INTERNAL for a client's mistake", "", "grpc/infer-shape"),
    ("UNKNOWN with a Python attribute's name", "", "grpc/raises-not_ready"),
    ("messages above 8 MiB are refused", HERE, "test_grpc_takes_more_than_eight_mebibytes"),
    ("no reflection, no health service",
     "server.test_grpc_services", "test_reflection_describes_every_service"),
    # Batcher and logger.
    ("the batcher mixes models and paths", SIDECARS, "test_models_are_not_mixed"),
    ("the batcher answers failures with 200",
     SIDECARS, "test_a_failure_of_a_batch_is_the_failure_of_its_callers"),
    ("a full queue of the logger blocks requests",
     SIDECARS, "test_a_sink_that_hangs_delays_nobody_and_what_does_not_fit_is_counted"),
    # Rollouts.
    ("requests are lost in every rollout",
     "server.test_drain_delay", "test_a_request_that_arrives_during_the_delay_is_answered"),
)  # fmt: skip

ROWS, CLASSES = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])
DATA = [6.8, 2.8, 4.8, 1.4]


@pytest.mark.parametrize(("defect", "module", "test"), DEFECTS, ids=[d[0] for d in DEFECTS])
def test_each_defect_has_a_test(defect: str, module: str, test: str) -> None:
    if not module:
        better = {**test_v1_vectors.BETTER, **test_kserve_vectors.BETTER}
        assert test in {**better, **test_kserve_vectors.OTHER}, defect
        return
    assert callable(getattr(importlib.import_module(f"tests.{module}"), test)), defect


def test_every_recorded_defect_is_on_the_list() -> None:
    listed = {test for _, module, test in DEFECTS if not module}
    everywhere = [*test_v1_vectors.vectors(), *test_kserve_vectors.vectors()]
    marked = {vector["id"] for vector in everywhere if "defect" in vector}
    # JSON without a content type is shown by a test; what a model raises is Triton's backend's.
    assert marked - listed == {"v2/type-none", "v1/raises-value", "v2/raises-value"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    for name, answers in (("iris", CLASSES), ("named", NAMES[CLASSES])):
        (root / name / "1").mkdir(parents=True)
        model = LogisticRegression(max_iter=500).fit(ROWS, answers)
        skops.io.dump(model, root / name / "1/model.skops")
    options = {"model_control_mode": "explicit", "load_models": ("*",)}
    with serve(root, **options) as running:
        yield running


def asked(server: Server, path: str, body: object) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(server.http_url.removeprefix("http://"), timeout=10)
    connection.request("POST", path, json.dumps(body))
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    return answer.status, told


def tensor(datatype: str = "FP32", data: object = None) -> dict[str, Any]:
    return {"name": "x", "shape": [1, 4], "datatype": datatype, "data": data or DATA}


def test_labels_that_are_texts_are_answered(server: Server) -> None:
    """KServe: 500, `decoding str is not supported`."""
    body = {"instances": [DATA]}
    assert asked(server, "/v1/models/named:predict", body) == (200, {"predictions": ["versicolor"]})
    _, told = asked(server, "/v2/models/named/infer", {"inputs": [tensor()]})
    output = told["outputs"][0]
    assert (output["datatype"], output["data"]) == ("BYTES", ["versicolor"])


def test_floats_for_whole_numbers_are_refused(server: Server) -> None:
    """KServe: 200, for 6 instead of 6.8."""
    status, told = asked(server, "/v2/models/iris/infer", {"inputs": [tensor("INT64")]})
    assert (status, list(told)) == (400, ["error"])
    whole = tensor("INT64", [6, 2, 4, 1])
    assert asked(server, "/v2/models/iris/infer", {"inputs": [whole]})[0] == 200


def test_half_of_a_float_is_a_number_in_both_forms(server: Server) -> None:
    """KServe: 400 for FP16 in JSON, and no BF16 at all."""
    for datatype in ("FP16", "BF16"):
        status, told = asked(server, "/v2/models/iris/infer", {"inputs": [tensor(datatype)]})
        assert (status, told["outputs"][0]["data"]) == (200, [1])
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        for datatype, kind in (("FP16", np.float16), ("BF16", ml_dtypes.bfloat16)):
            given = grpcclient.InferInput("x", [1, 4], datatype)
            given.set_data_from_numpy(np.array([DATA], kind))
            assert client.infer("iris", [given]).as_numpy("output-0").tolist() == [1]


def test_grpc_heeds_the_version(server: Server) -> None:
    """KServe: answers, whatever version is asked for."""
    given = grpcclient.InferInput("x", [1, 4], "FP32")
    given.set_data_from_numpy(np.array([DATA], np.float32))
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        assert client.infer("iris", [given], "1").get_response().model_version == "1"
        with pytest.raises(InferenceServerException, match="version 9 is not"):
            client.infer("iris", [given], "9")


def test_grpc_loads_and_unloads_and_says_so(server: Server) -> None:
    """KServe: the model is gone and the answer INTERNAL; an unknown one names an attribute."""
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        client.unload_model("named")
        assert not client.is_model_ready("named")
        client.load_model("named")
        assert client.is_model_ready("named")
        with pytest.raises(grpc.RpcError) as refused:
            client._client_stub.RepositoryModelLoad(
                service_pb2.RepositoryModelLoadRequest(model_name="nobody")
            )
    assert "failed to load 'nobody'" in refused.value.details()  # type: ignore[attr-defined]


def test_kserves_own_messages_load_and_unload(server: Server) -> None:
    """Their only field, the model's name, is where Triton's messages have the repository."""
    name = b"\x0a\x05named"
    with grpc.insecure_channel(server.grpc_url) as channel:
        for verb, ready in (("Unload", False), ("Load", True)):
            call = channel.unary_unary(f"/inference.GRPCInferenceService/RepositoryModel{verb}")
            assert call(name, timeout=10) == name + b"\x10\x01"
            with grpcclient.InferenceServerClient(server.grpc_url) as client:
                assert client.is_model_ready("named") is ready


def test_grpc_takes_more_than_eight_mebibytes(server: Server) -> None:
    """KServe: RESOURCE_EXHAUSTED."""
    rows = np.tile(np.array(DATA, np.float32), (600_000, 1))
    assert rows.nbytes > 9 * 2**20
    with grpcclient.InferenceServerClient(server.grpc_url) as client:
        given = grpcclient.InferInput("x", rows.shape, "FP32")
        given.set_data_from_numpy(rows)
        wanted = [grpcclient.InferRequestedOutput("output-0")]
        answer = client.infer("iris", [given], outputs=wanted).as_numpy("output-0")
    assert answer.shape == (600_000,)
    assert set(answer.tolist()) == {1}
