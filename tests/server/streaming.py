"""A server of streaming models, and a client of its streams."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import tritonclient.grpc
from tests.server.streaming_models import CONFIG, COROUTINES, IDENTITY, MODEL

from nerite import Server
from nerite.testing import serve


@contextmanager
def streaming_server(folder: Path) -> Iterator[Server]:
    two = "instance_group [ { kind: KIND_CPU count: 2 } ]"
    for name, files in {
        "streams": {"config.pbtxt": CONFIG + two, "1/model.py": MODEL},
        "single": {"config.pbtxt": CONFIG, "1/model.py": MODEL},
        "coroutines": {"config.pbtxt": CONFIG, "1/model.py": COROUTINES},
        "one": {"config.pbtxt": IDENTITY, "1/.keep": ""},
    }.items():
        for path, text in files.items():
            (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / name / path).write_text(text)
    with serve(folder, first_response_histogram=True) as running:
        yield running


def asking(how: str, n: int | None = None) -> list[Any]:
    """The inputs of a request to a streaming model."""
    inputs = [tritonclient.grpc.InferInput("HOW", [1], "BYTES")]
    inputs[0].set_data_from_numpy(np.array([how.encode()], dtype=object))
    if n is not None:
        inputs.append(tritonclient.grpc.InferInput("N", [1], "INT32"))
        inputs[1].set_data_from_numpy(np.array([n], np.int32))
    return inputs


def number(value: int) -> list[Any]:
    """The inputs of a request to the model that answers once."""
    one = tritonclient.grpc.InferInput("X", [1, 1], "INT32")
    one.set_data_from_numpy(np.array([[value]], np.int32))
    return [one]


class Stream:
    """A stream of the synchronous client; what comes is put into a queue."""

    def __init__(self, server: Server) -> None:
        self.client = tritonclient.grpc.InferenceServerClient(server.grpc_url)
        self.came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.client.start_stream(lambda result, error: self.came.put(error or result))

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_stream()
        self.client.close()

    def ask(self, model: str, inputs: list[Any], request_id: str = "", **options: Any) -> None:
        self.client.async_stream_infer(model, inputs, request_id=request_id, **options)

    def next(self) -> Any:
        got = self.came.get(timeout=10)
        if isinstance(got, Exception):
            raise got
        return got


def is_last(result: Any) -> bool:
    return bool(result.get_response().parameters["triton_final_response"].bool_param)


def seen(server: Server, model: str = "streams") -> list[str]:
    """What the model has noted."""
    with Stream(server) as stream:
        stream.ask(model, asking("report"))
        return [word.decode() for word in stream.next().as_numpy("TEXT")]


def eventually(holds: Callable[[], bool]) -> None:
    """Asks the server again until it has come to pass."""
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "it never came to pass"


def page(server: Server) -> str:
    with urlopen(server.metrics_url) as answer:
        return str(answer.read().decode())
