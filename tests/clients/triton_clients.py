# SPDX-License-Identifier: Apache-2.0
"""Triton's four Python clients, made alike for tests.

`Client` notes which methods are called, waits for what is awaitable and asks gRPC for JSON.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio

from nerite.server.server import Server

VALUES = np.array([[1.5, -2.0], [0.0, 4.25]], np.float32)


class Client:
    """A client of one flavour; `called` has the names of the methods that were called."""

    def __init__(self, flavour: Flavour, server: Server) -> None:
        self.module, self.is_grpc = flavour.module, flavour.is_grpc
        self.called: set[str] = set()
        self.runner = asyncio.Runner()
        url = server.grpc_url if self.is_grpc else server.http_url.removeprefix("http://")
        self.plain = self.await_if(self._make(url, flavour.is_aio))

    def _make(self, url: str, is_aio: bool) -> Any:
        async def made() -> Any:  # aiohttp wants a loop to be there
            return self.module.InferenceServerClient(url)

        return made() if is_aio else self.module.InferenceServerClient(url)

    def await_if(self, given: Any) -> Any:
        return self.runner.run(waited(given)) if inspect.isawaitable(given) else given

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.plain, name)

        def asked(*words: Any, **options: Any) -> Any:
            self.called.add(name)
            if self.is_grpc and "as_json" in inspect.signature(method).parameters:
                options.setdefault("as_json", True)
            return self.await_if(method(*words, **options))

        return asked

    def inputs(self, values: np.ndarray[Any, Any] = VALUES) -> list[Any]:
        tensor = self.module.InferInput("X", list(values.shape), "FP32")
        tensor.set_data_from_numpy(values)
        return [tensor]

    def told(self, **options: Any) -> dict[str, Any]:
        """What a model hears of a request."""
        return heard(self.infer("told", self.inputs(), **options))

    def stream_failure(self, timeout: float) -> str:
        """What is said of a stream on which nothing comes for too long."""
        if hasattr(self.plain, "stream_infer"):

            async def silent() -> AsyncIterator[dict[str, Any]]:
                await asyncio.Event().wait()
                yield {}

            async def read() -> str:
                try:
                    async for _ in self.plain.stream_infer(silent(), stream_timeout=timeout):
                        pass
                except grpc.aio.AioRpcError as why:
                    return str(why.details())
                return ""

            return str(self.runner.run(read()))
        came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.start_stream(lambda result, error: came.put(error), stream_timeout=timeout)
        why = str(came.get(timeout=10))
        self.stop_stream()
        return why


@dataclass(frozen=True)
class Flavour:
    """One of Triton's clients."""

    name: str
    module: ModuleType

    @property
    def is_grpc(self) -> bool:
        return self.name.startswith("grpc")

    @property
    def is_aio(self) -> bool:
        return self.name.endswith("aio")

    @contextmanager
    def connected(self, server: Server) -> Iterator[Client]:
        client = Client(self, server)
        try:
            yield client
        finally:
            client.close()
            client.runner.close()


FLAVOURS = [
    Flavour("http", tritonclient.http),
    Flavour("http.aio", tritonclient.http.aio),
    Flavour("grpc", tritonclient.grpc),
    Flavour("grpc.aio", tritonclient.grpc.aio),
]


def methods(flavour: Flavour) -> list[str]:
    """The public methods of a flavour, from the class itself."""
    found = inspect.getmembers(flavour.module.InferenceServerClient, callable)
    return [name for name, _ in found if not name.startswith("_")]


async def waited(given: Any) -> Any:
    return await given


def heard(result: Any) -> dict[str, Any]:
    """What the model heard, from the answer in which the tensor came back too."""
    assert (result.as_numpy("Y") == VALUES).all()
    texts = result.as_numpy("TOLD").ravel().tolist()
    assert len(set(texts)) == 1
    found: dict[str, Any] = json.loads(texts[0])
    return found
