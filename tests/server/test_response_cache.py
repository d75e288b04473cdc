# SPDX-License-Identifier: Apache-2.0
"""The response cache of a real server: what is answered from it, and what must not be."""

from __future__ import annotations

import json
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tests.model_folders import write_model
from tests.server.test_metrics import samples
from tritonclient.utils import shared_memory

from nerite.cli.options import choose
from nerite.cli.serve import server_options
from nerite.errors import InvalidArgument
from nerite.server.server import Server
from nerite.server.trace_file import entries_of
from nerite.testing import serve

#: `Y` is how often the model was executed, so an answer from the cache tells an old number.
COUNTS = """backend: "python" max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "Y" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "Z" data_type: TYPE_FP32 dims: [ -1 ] } ]
response_cache { enable: true }
"""
COUNTING = """import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.count = BASE

    def execute(self, requests):
        answers = []
        for request in requests:
            self.count += 1
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            if x.ravel()[0] < 0:
                answers.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("negative")))
                continue
            y = np.full((x.shape[0], 1), self.count, np.int32)
            outputs = [pb_utils.Tensor("Y", y), pb_utils.Tensor("Z", x)]
            wanted = request.requested_output_names()
            answers.append(pb_utils.InferenceResponse([t for t in outputs if t.name() in wanted]))
        return answers
"""
IDENTITY = """backend: "identity" max_batch_size: 4
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
CACHES = "response_cache { enable: true }\n"
SIZE = 1 << 20
#: What an answer costs beside its data (`nerite_logic::cache::ENTRY_BYTES`).
ENTRY = 512


def counting(base: int = 0) -> dict[str, str]:
    return {"config.pbtxt": COUNTS, "1/model.py": COUNTING.replace("BASE", str(base))}


def write_models(root: Path) -> Path:
    write_model(root / "counts", counting())
    write_model(root / "cached", {"config.pbtxt": IDENTITY + CACHES, "1": None})
    write_model(root / "plain", {"config.pbtxt": IDENTITY, "1": None})
    return root


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    root = write_models(tmp_path / "models")
    with serve(root, cache_bytes=SIZE, allow_client_shm=True, io_threads=2) as running:
        yield running


def post(server: Server, path: str, body: Any) -> Any:
    text = json.dumps(body).encode()
    return json.loads(urlopen(Request(server.http_url + path, text)).read() or b"null")


def ask(
    server: Server, x: list[float], shape: list[int], model: str = "counts", **more: Any
) -> Any:
    name = "X" if model == "counts" else "INPUT0"
    tensor = {"name": name, "datatype": "FP32", "shape": shape, "data": x}
    return post(server, f"/v2/models/{model}/infer", {"inputs": [tensor], **more})


def count(answer: Any) -> int:
    return int(next(o["data"][0] for o in answer["outputs"] if o["name"] == "Y"))


def statistics(server: Server, model: str = "counts") -> dict[str, int]:
    told = json.loads(urlopen(f"{server.http_url}/v2/models/{model}/stats").read())
    told = told["model_stats"][0]
    counts = {name: spent["count"] for name, spent in told["inference_stats"].items()}
    return counts | {"executions": told["execution_count"], "inferences": told["inference_count"]}


def page(server: Server) -> dict[str, float]:
    return samples(urlopen(server.metrics_url).read().decode())


@pytest.mark.parametrize("client", [httpclient, grpcclient], ids=["http", "grpc"])
def test_the_same_request_is_answered_without_the_model(server: Server, client: Any) -> None:
    url = server.grpc_url if client is grpcclient else server.http_url.removeprefix("http://")
    with client.InferenceServerClient(url) as triton:

        def infer(request_id: str) -> Any:
            x = client.InferInput("X", [2, 3], "FP32")
            x.set_data_from_numpy(np.arange(6, dtype=np.float32).reshape(2, 3))
            return triton.infer("counts", [x], request_id=request_id)

        first = infer("a")
        before = server.engine.counters()
        again = infer("b")
        after = server.engine.counters()
        for name in ("Y", "Z"):
            np.testing.assert_array_equal(again.as_numpy(name), first.as_numpy(name))
        told = again.get_response(as_json=True) if client is grpcclient else again.get_response()
        assert told["id"] == "b"
    # Neither Python nor an instance, nor the way back from one.
    for name in ("gil_acquisitions", "batches", "wakeups_forward", "wakeups_back"):
        assert after[name] == before[name], name


def test_both_protocols_and_streams_share_what_is_kept(server: Server) -> None:
    first = ask(server, [1, 2], [1, 2])
    x = grpcclient.InferInput("X", [1, 2], "FP32")
    x.set_data_from_numpy(np.array([[1, 2]], np.float32))
    answers: list[Any] = []
    came = threading.Semaphore(0)

    def keep(result: Any, error: Any) -> None:
        answers.append(error or result.as_numpy("Y")[0, 0])
        came.release()

    with grpcclient.InferenceServerClient(server.grpc_url) as triton:
        assert triton.infer("counts", [x]).as_numpy("Y")[0, 0] == count(first)
        triton.start_stream(keep)
        triton.async_stream_infer("counts", [x])
        assert came.acquire(timeout=10)
        triton.stop_stream()
    assert answers == [count(first)]


@pytest.mark.parametrize(
    ("x", "shape", "more"),
    [
        ([1, 2, 3, 4], [2, 2], {}),
        ([1, 2, 3, 5], [1, 4], {}),
        ([1, 2, 3, 4], [1, 4], {"outputs": [{"name": "Y"}]}),
        ([1, 2, 3, 4], [1, 4], {"parameters": {"style": "loud"}}),
        ([1, 2, 3, 4], [1, 4], {"parameters": {"priority": 2}}),
    ],
    ids=["shape", "data", "outputs", "parameter", "priority"],
)
def test_a_request_that_the_model_can_tell_from_another_has_its_own_answer(
    server: Server, x: list[float], shape: list[int], more: Any
) -> None:
    first = ask(server, [1, 2, 3, 4], [1, 4])
    other = ask(server, x, shape, **more)
    assert count(other) == count(first) + 1
    shapes = {output["name"]: output["shape"] for output in other["outputs"]}
    assert shapes["Y"] == [shape[0], 1]
    assert shapes.get("Z", shape) == shape
    assert set(shapes) == ({"Y"} if "outputs" in more else {"Y", "Z"})
    assert count(ask(server, x, shape, **more)) == count(other)
    assert count(ask(server, [1, 2, 3, 4], [1, 4])) == count(first)


def test_how_an_answer_is_encoded_is_no_part_of_the_question(server: Server) -> None:
    asked = {"outputs": [{"name": "Z", "parameters": {"classification": 1}}, {"name": "Y"}]}
    plain = ask(server, [1, 9, 3], [1, 3], outputs=[{"name": "Z"}, {"name": "Y"}])
    classes = ask(server, [1, 9, 3], [1, 3], **asked)
    assert count(classes) == count(plain)
    data = {output["name"]: output["data"] for output in classes["outputs"]}
    assert data["Z"] == ["9.000000:1"]


def test_tensors_in_shared_memory_are_known_by_what_they_hold(server: Server) -> None:
    key = f"/nerite-cache-{uuid.uuid4().hex}"
    region = shared_memory.create_shared_memory_region("r", key, 24)
    with httpclient.InferenceServerClient(server.http_url.removeprefix("http://")) as triton:
        try:
            triton.register_system_shared_memory("r", key, 24)

            def infer(x: list[float]) -> tuple[int, list[float]]:
                shared_memory.set_shared_memory_region(region, [np.array([x], np.float32)])
                inputs = [httpclient.InferInput("X", [1, 2], "FP32")]
                inputs[0].set_shared_memory("r", 8)
                outputs = [httpclient.InferRequestedOutput(name) for name in ("Y", "Z")]
                outputs[1].set_shared_memory("r", 8, 16)
                result = triton.infer("counts", inputs, outputs=outputs)
                z = shared_memory.get_contents_as_numpy(region, np.float32, [1, 2], 16)
                return int(result.as_numpy("Y")[0, 0]), z[0].tolist()

            first, other = infer([1, 2]), infer([3, 4])
            assert other == (first[0] + 1, [3, 4])
            assert infer([1, 2]) == first == (first[0], [1, 2])
            both = [{"name": "Y"}, {"name": "Z"}]
            assert count(ask(server, [3, 4], [1, 2], outputs=both)) == other[0]
        finally:
            shared_memory.destroy_shared_memory_region(region)


def test_errors_are_not_kept(server: Server) -> None:
    for _ in range(2):
        with pytest.raises(HTTPError) as failed:
            ask(server, [-1], [1, 1])
        assert b"negative" in failed.value.read()
    told = statistics(server)
    assert (told["fail"], told["cache_hit"], told["cache_miss"]) == (2, 0, 2)
    assert page(server)["nv_cache_num_entries"] == 0


def test_a_model_that_is_loaded_again_answers_nothing_that_the_old_one_did(tmp_path: Path) -> None:
    root = write_models(tmp_path / "models")
    with serve(
        root, cache_bytes=SIZE, model_control_mode="explicit", load_models=("counts",)
    ) as server:
        assert count(ask(server, [1], [1, 1])) == 1
        write_model(root / "counts", counting(100))
        post(server, "/v2/repository/models/counts/load", {})
        assert count(ask(server, [1], [1, 1])) == 101
        assert count(ask(server, [1], [1, 1])) == 101
        post(server, "/v2/repository/models/counts/unload", {})
        write_model(root / "counts", counting())
        post(server, "/v2/repository/models/counts/load", {})
        assert count(ask(server, [2], [1, 1])) == 1
        assert count(ask(server, [1], [1, 1])) == 2


def test_the_answers_used_last_stay_and_never_take_more_than_the_size(tmp_path: Path) -> None:
    root = write_models(tmp_path / "models")
    floats = 1024
    with serve(root, cache_bytes=3 * (ENTRY + 4 * floats) + 100) as server:

        def hit(number: float) -> bool:
            before = statistics(server, "cached")["cache_hit"]
            ask(server, [number] * floats, [1, floats], "cached")
            return statistics(server, "cached")["cache_hit"] > before

        assert [hit(number) for number in (1, 2, 3)] == [False] * 3
        assert hit(1)
        assert not hit(4), "in the place of 2, which was used least recently"
        assert [hit(number) for number in (1, 3, 4)] == [True] * 3
        assert not hit(2)
        counted = page(server)
        assert (counted["nv_cache_num_entries"], counted["nv_cache_num_evictions"]) == (3, 2)
        assert 0.95 < counted["nv_cache_util"] <= 1
        for _ in range(2):
            ask(server, [5] * (4 * floats), [1, 4 * floats], "cached")
        assert statistics(server, "cached")["executions"] == 7, "too large to be kept"
        assert page(server)["nv_cache_num_entries"] == 3, "and no reason for others to leave"


def test_many_threads_get_their_own_answers_while_others_are_pushed_out(tmp_path: Path) -> None:
    root = write_models(tmp_path / "models")
    with serve(root, cache_bytes=8 * (ENTRY + 400), io_threads=4) as server:
        filled: list[float] = []
        stop = threading.Event()

        def watch() -> None:
            while not stop.is_set():
                filled.append(page(server)["nv_cache_util"])

        def infer(thread: int) -> None:
            url = server.http_url.removeprefix("http://")
            with httpclient.InferenceServerClient(url) as triton:
                for step in range(150):
                    number = (step * (thread + 1)) % 24
                    x = httpclient.InferInput("INPUT0", [1, 100], "FP32")
                    x.set_data_from_numpy(np.full((1, 100), number, np.float32))
                    got = triton.infer("cached", [x]).as_numpy("OUTPUT0")
                    assert (got == number).all()

        with ThreadPoolExecutor(9) as pool:
            watching = pool.submit(watch)
            for done in [pool.submit(infer, thread) for thread in range(8)]:
                done.result()
            stop.set()
            watching.result()
        assert max(filled) <= 1
        told, counted = statistics(server, "cached"), page(server)
        assert told["cache_hit"] + told["cache_miss"] == told["success"] == 8 * 150
        assert told["executions"] == told["cache_miss"]
        assert counted["nv_cache_num_hits"] == told["cache_hit"] > 0
        assert counted["nv_cache_num_evictions"] > 0


def test_requests_under_way_together_miss_each_for_itself(tmp_path: Path) -> None:
    slow = (
        IDENTITY + CACHES + 'parameters { key: "execute_delay_ms" value: { string_value: "300" } }'
    )
    write_model(tmp_path / "models/slow", {"config.pbtxt": slow, "1": None})
    with serve(tmp_path / "models", cache_bytes=SIZE) as server:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda _: ask(server, [1], [1, 1], "slow"), range(3)))
        told = statistics(server, "slow")
        assert (told["cache_hit"], told["cache_miss"], told["inferences"]) == (0, 3, 3)
        assert page(server)["nv_cache_num_entries"] == 1


#: Waits for a line in a pipe where X begins with 1.
GATED = """import pathlib
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
            if x[0, 0] == 1:
                pathlib.Path(GATE + ".reached").touch()
                pathlib.Path(GATE).read_text()
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("Y", x)]))
        return answers
"""


def test_an_answer_from_the_cache_overtakes_none_where_the_order_is_kept(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    config = """backend: "python" max_batch_size: 1
        input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
        output [ { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] } ]
        dynamic_batching { preserve_ordering: ORDER }
        instance_group [ { count: 2 } ]
    """
    for name, order in (("ordered", "true"), ("free", "false")):
        code = GATED.replace("GATE", repr(str(gate)))
        text = config.replace("ORDER", order) + CACHES
        write_model(tmp_path / "models" / name, {"config.pbtxt": text, "1/model.py": code})
    with (
        serve(tmp_path / "models", cache_bytes=SIZE) as server,
        grpcclient.InferenceServerClient(server.grpc_url) as triton,
    ):

        def infer(model: str, number: float, came: Callable[..., None] | None = None) -> Any:
            x = grpcclient.InferInput("X", [1, 1], "FP32")
            x.set_data_from_numpy(np.array([[number]], np.float32))
            if came is None:
                return triton.infer(model, [x])
            return triton.async_infer(model, [x], lambda result, error: came(number))

        for model, expected in (("ordered", [1, 2]), ("free", [2, 1])):
            infer(model, 2)
            order: list[float] = []
            both = threading.Semaphore(0)

            def came(number: float, order: list[float] = order, both: Any = both) -> None:
                order.append(number)
                both.release()

            infer(model, 1, came)
            reached = Path(f"{gate}.reached")
            while not reached.exists():
                threading.Event().wait(0.002)
            reached.unlink()
            infer(model, 2, came)
            if model == "free":
                assert both.acquire(timeout=10), "it is answered while the other is under way"
            else:
                # Both have been executed once the second has, and still none has left.
                while statistics(server, model)["executions"] < 2:
                    threading.Event().wait(0.002)
            gate.write_text("go")
            while len(order) < 2:
                assert both.acquire(timeout=10)
            assert order == expected


def test_metrics_tell_of_models_that_cache_and_of_the_whole(server: Server) -> None:
    for _ in range(3):
        ask(server, [1], [1, 1], "cached")
        ask(server, [1], [1, 1], "plain")
    text = urlopen(server.metrics_url).read().decode()
    told = samples(text)
    labels = 'model="cached",version="1"'
    assert told[f"nv_cache_num_hits_per_model{{{labels}}}"] == 2
    assert told[f"nv_cache_num_misses_per_model{{{labels}}}"] == 1
    for series, value in {
        "nv_inference_request_success": 3,
        "nv_inference_count": 1,
        "nv_inference_exec_count": 1,
    }.items():
        assert told[f"{series}{{{labels}}}"] == value
    assert not [series for series in told if "nv_cache" in series and "plain" in series]
    whole = {
        "nv_cache_num_entries": 1,
        "nv_cache_num_hits": 2,
        "nv_cache_num_misses": 1,
        "nv_cache_num_lookups": 3,
        "nv_cache_num_evictions": 0,
    }
    assert {name: told[name] for name in whole} == whole
    assert 0 < told["nv_cache_util"] < 0.01
    helps = {
        "nv_cache_hit_duration_per_model": "Total cache hit duration per model, in microseconds",
        "nv_cache_miss_duration_per_model": "Total cache miss (insert+lookup) duration per model, "
        "in microseconds",
        "nv_cache_lookup_duration": "Total cache lookup duration (hit and miss), in microseconds",
        "nv_cache_insertion_duration": "Total cache insertion duration, in microseconds",
    }
    for name, told_help in helps.items():
        kind = "counter" if name.endswith("per_model") else "gauge"
        assert f"# HELP {name} {told_help}\n# TYPE {name} {kind}\n" in text


def test_summaries_tell_hits_and_misses_and_not_the_whole_request(tmp_path: Path) -> None:
    root = write_models(tmp_path / "models")
    with serve(root, cache_bytes=SIZE, summary_latencies=True) as server:
        for _ in range(3):
            ask(server, [1], [1, 1], "cached")
            ask(server, [1], [1, 1], "plain")
        told = page(server)
    labels = 'model="cached",version="1"'
    assert told[f"nv_cache_hit_summary_per_model_count{{{labels}}}"] == 2
    assert told[f"nv_cache_miss_summary_per_model_count{{{labels}}}"] == 1
    assert told[f'nv_cache_hit_summary_per_model{{{labels},quantile="0.5"}}'] > 0
    assert told[f"nv_inference_queue_summary_us_count{{{labels}}}"] == 3
    assert told[f"nv_inference_compute_infer_summary_us_count{{{labels}}}"] == 1
    assert f"nv_inference_request_summary_us_count{{{labels}}}" not in told
    assert told['nv_inference_request_summary_us_count{model="plain",version="1"}'] == 3


def test_a_server_without_a_cache_has_no_metrics_of_it_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_models(tmp_path / "models")
    with caplog.at_level(logging.WARNING), serve(root) as server:
        first = ask(server, [1], [1, 1])
        assert count(ask(server, [1], [1, 1])) == count(first) + 1
        assert not [series for series in page(server) if "nv_cache" in series]
        told = statistics(server)
        assert (told["cache_hit"], told["cache_miss"]) == (0, 0)
    warned = [record.getMessage() for record in caplog.records if "cache" in record.getMessage()]
    assert sorted(warned) == [
        f"model '{name}': response_cache has no effect, since the server has no cache; "
        "start it with --cache-config=local,size=BYTES"
        for name in ("cached", "counts")
    ]


def test_a_trace_of_a_hit_passes_no_instance(server: Server) -> None:
    ask(server, [1], [1, 1], "cached")
    server.engine.set_tracing(
        json.dumps(
            {
                "propagated": False,
                "rules": {
                    "": {
                        "rate": 1,
                        "count": -1,
                        "timestamps": True,
                        "tensors": True,
                        "log_frequency": 0,
                    }
                },
            }
        ),
        0,
    )
    ask(server, [1], [1, 1], "cached", id="hit")
    traces: list[Any] = []
    while not traces:
        traces += server.engine.next_traces(10) or []
    names = [point[0] for point in traces[0]["points"]]
    assert names == [
        "HTTP_RECV_START",
        "HTTP_RECV_END",
        "REQUEST_START",
        "QUEUE_START",
        "REQUEST_END",
        "INFER_RESPONSE_COMPLETE",
        "HTTP_SEND_START",
        "HTTP_SEND_END",
    ]
    assert [each[0] for each in traces[0]["outputs"]] == ["OUTPUT0"]
    assert entries_of(traces[0])


NO_CACHE = (
    "No cache specified. --cache-config option format is <cache name>,<setting>=<value>. Got "
)


@pytest.mark.parametrize("size", [1, ENTRY - 1])
def test_a_cache_that_could_keep_nothing_fails_to_start(tmp_path: Path, size: int) -> None:
    told = (
        f"Failed to initialize LocalCache: size {size} is too small; an answer takes {ENTRY} bytes"
    )
    with pytest.raises(InvalidArgument, match=told), serve(tmp_path, cache_bytes=size):
        pass


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["size=1"], NO_CACHE + "size=1"),
        (["local"], NO_CACHE + "local"),
        (["local,size"], "--cache-config option format is '<cache name>,<setting>=<value>'. Got "),
        (["local,=5"], "--cache-config option format is '<cache name>,<setting>=<value>'. Got "),
        (["local,size="], "--cache-config option format is '<cache name>,<setting>=<value>'. Got"),
        (["local,size=many"], "'local,size=many' has no size; a number of bytes from 1 to"),
        (["local,size=0"], "'local,size=0' has no size; a number of bytes from 1 to"),
        (["local,size=-1"], "'local,size=-1' has no size; a number of bytes from 1 to"),
        (["local,size=99999999999999999999"], "has no size; a number of bytes from 1 to"),
        (["local,ttl=5"], "'local,ttl=5' is not offered; --cache-config=local,size=BYTES is"),
        (["redis,host=h", "redis,port=1"], "there is no cache 'redis' in Nerite; 'local' is"),
        (
            ["local,size=4096", "redis,host=h"],
            "found multiple cache configurations, but only a single cache is currently supported",
        ),
    ],
)
def test_a_cache_that_is_not_offered_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        server_options(["models"], choose({"--cache-config": words}))
    assert told in str(refused.value)


def test_both_ways_to_ask_for_a_cache_mean_the_same_but_not_together() -> None:
    older = {"--response-cache-byte-size": "4096"}
    newer = {"--cache-config": ["local,size=1024", "local,size=4096"]}
    assert server_options(["m"], choose(older)) == server_options(["m"], choose(newer))
    with pytest.raises(InvalidArgument) as refused:
        server_options(["m"], choose({**older, **newer}))
    assert str(refused.value) == (
        "Error: Incompatible flags --response-cache-byte-size and --cache-config both provided. "
        "Please provide one or the other."
    )
