# SPDX-License-Identifier: Apache-2.0
"""Every method of KServe's inference clients, unmodified, against servers that are there.

`python kserve_exchanges.py JSON` runs in the environment of the `kserve` package, which cannot
share a process with tritonclient: both register the messages of `inference.GRPCInferenceService`.
The argument says where the servers are; printed is one JSON object, exchange -> what came of it.
"""

from __future__ import annotations

import asyncio
import gzip
import inspect
import json
import ssl
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import numpy as np
from kserve.errors import UnsupportedProtocol
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest

ROW = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
GZIP = 2


def request(
    model: str, values: np.ndarray, name: str, *, binary: bool, **options: Any
) -> InferRequest:
    """One tensor, in JSON (or typed contents) or as bytes."""
    kinds = {"float32": "FP32", "float16": "FP16", "object": "BYTES"}
    tensor = InferInput(name, list(values.shape), kinds[str(values.dtype)])
    tensor.set_data_from_numpy(values, binary_data=binary)
    return InferRequest(model, [tensor], **options)


def told(answer: Any) -> dict[str, Any]:
    """An InferResponse as plain values."""
    output = answer.outputs[0]
    values = output.as_numpy()
    kind = str(values.dtype)
    if values.dtype == np.object_:
        values = np.array([v.decode() if isinstance(v, bytes) else v for v in values.ravel()])
    return {
        "id": answer.id,
        "model": answer.model_name,
        "version": answer.model_version,
        "output": output.name,
        "shape": list(output.shape),
        "datatype": output.datatype,
        "numpy": kind,
        "values": values.ravel().tolist(),
        "parameters": dict(answer.parameters or {}) if isinstance(answer.parameters, dict) else {},
    }


async def failure(asked: Awaitable[Any]) -> dict[str, Any]:
    """How an exchange fails that must."""
    try:
        answer = await asked
    except httpx.HTTPStatusError as why:
        return {"status": why.response.status_code, "text": str(why)}
    except grpc.RpcError as why:
        return {"status": why.code().name, "text": why.details()}
    except UnsupportedProtocol:
        return {"raised": "UnsupportedProtocol"}
    except httpx.TimeoutException:
        return {"raised": "TimeoutException"}
    raise AssertionError(f"answered with {answer!r}")


class Exchanges:
    """What was done: method -> exchanges, and each exchange's outcome."""

    def __init__(self, places: dict[str, str]) -> None:
        self.at = places
        self.outcomes: dict[str, Any] = {}

    async def note(self, name: str, asked: Awaitable[Any]) -> None:
        self.outcomes[name] = await asked

    async def v1(self) -> None:
        rest, key = self.at["iris_http"], {"instances": ROW}
        async with InferenceRESTClient(RESTConfig(protocol="v1", verbose=True)) as client:
            await self.note("v1/live", client.is_server_live(rest))
            await self.note("v1/ready", failure(client.is_server_ready(rest)))
            await self.note("v1/model", client.is_model_ready(rest, "iris"))
            await self.note("v1/no-model", failure(client.is_model_ready(rest, "nobody")))
            await self.note("v1/infer", client.infer(rest, key, model_name="iris"))
            await self.note(
                "v1/bad", failure(client.infer(rest, {"instances": [["x"]]}, model_name="iris"))
            )
            await self.note("v1/explain", failure(client.explain(rest, "iris", key)))
            graph = f"{rest}/v1/models/iris:predict"
            await self.note("v1/graph", client.infer(graph, key, is_graph_endpoint=True))

    async def v2(self) -> None:
        rest = self.at["iris_http"]
        rows = np.array(ROW, np.float32)
        async with InferenceRESTClient(RESTConfig(protocol="v2", retries=1)) as client:
            await self.note("v2/live", client.is_server_live(rest))
            await self.note("v2/ready", client.is_server_ready(rest))
            await self.note("v2/model", client.is_model_ready(rest, "iris"))
            await self.note("v2/no-model", client.is_model_ready(rest, "nobody"))
            await self.note("v2/explain", failure(client.explain(rest, "iris", {})))
            for binary in (False, True):
                asked = request("iris", rows, "input-0", binary=binary, request_id="seven")
                answer = await client.infer(rest, asked, model_name="iris")
                self.outcomes[f"v2/infer-{'bytes' if binary else 'json'}"] = told(answer)
            wrong = request("iris", rows[:, :3], "input-0", binary=False)
            await self.note("v2/bad", failure(client.infer(rest, wrong, model_name="iris")))
            plain = {
                "inputs": [
                    tensor.to_dict()
                    for tensor in request("iris", rows, "input-0", binary=False).inputs
                ]
            }
            packed = gzip.compress(json.dumps(plain).encode())
            seen: dict[str, str] = {}
            headers = {"content-encoding": "gzip", "accept-encoding": "gzip"}
            answer = await client.infer(
                rest, packed, model_name="iris", headers=headers, response_headers=seen
            )
            self.outcomes["v2/gzip"] = {**told(answer), "encoding": seen.get("content-encoding")}

    async def tensors(self) -> None:
        """Kinds of tensors, over TLS, with a key."""
        trust = ssl.create_default_context(cafile=self.at["roots"])
        keyed = {"authorization": f"Bearer {self.at['key']}"}
        words = np.array(["", "größe"], dtype=np.object_)
        halves = np.array([0.5, -2.0], dtype=np.float16)
        rest = self.at["tls_http"]
        async with InferenceRESTClient(RESTConfig(protocol="v2", verify=trust)) as client:
            refused = client.infer(rest, request("words", words, "X", binary=True), "words")
            await self.note("tls/no-key", failure(refused))
            waiting = request("waiting", halves[None], "X", binary=True)
            late = client.infer(rest, waiting, "waiting", headers=dict(keyed), timeout=0.1)
            await self.note("tls/timeout", failure(late))
            for binary in (False, True):
                asked = request("words", words, "X", binary=binary)
                answer = await client.infer(rest, asked, "words", headers=dict(keyed))
                self.outcomes[f"tls/words-{'bytes' if binary else 'json'}"] = told(answer)
            wanted = [RequestedOutput("Y", {"binary_data": True})]
            asked = request("halves", halves, "X", binary=True, request_outputs=wanted)
            answer = await client.infer(rest, asked, "halves", headers=dict(keyed))
            self.outcomes["tls/halves"] = told(answer)
            asked = request(
                "words", words, "X", binary=True, parameters={"binary_data_output": True}
            )
            answer = await client.infer(rest, asked, "words", headers=dict(keyed))
            self.outcomes["tls/all-binary"] = told(answer)
        files = {"root_certificates": self.at["roots"], "private_key": self.at["client_key"]}
        async with InferenceGRPCClient(
            self.at["tls_grpc"], use_ssl=True, certificate_chain=self.at["client"], **files
        ) as grpc_client:
            headers = tuple(keyed.items())
            asked = request("halves", halves, "X", binary=True)
            self.outcomes["tls/grpc"] = told(await grpc_client.infer(asked, headers=headers))
            await self.note("tls/grpc-no-key", failure(grpc_client.infer(asked)))
            waiting = request("waiting", halves[None], "X", binary=True)
            late = grpc_client.infer(waiting, timeout=0.1, headers=headers)
            await self.note("tls/grpc-timeout", failure(late))

    async def grpc(self) -> None:
        rows = np.array(ROW, np.float32)
        async with InferenceGRPCClient(self.at["iris_grpc"], verbose=True, timeout=20) as client:
            await self.note("grpc/live", client.is_server_live())
            await self.note("grpc/ready", client.is_server_ready())
            await self.note("grpc/model", client.is_model_ready("iris"))
            await self.note("grpc/no-model", client.is_model_ready("nobody"))
            for binary in (False, True):
                asked = request("iris", rows, "input-0", binary=binary, request_id="seven")
                answer = await client.infer(asked, headers=(("x-request-id", "9"),))
                self.outcomes[f"grpc/infer-{'raw' if binary else 'typed'}"] = told(answer)
            wrong = request("iris", rows[:, :3], "input-0", binary=True)
            await self.note("grpc/bad", failure(client.infer(wrong)))
        squeezed = [("grpc.default_compression_algorithm", GZIP)]
        async with InferenceGRPCClient(
            self.at["iris_grpc"], channel_args=squeezed, retries=0
        ) as client:
            answer = await client.infer(request("iris", rows, "input-0", binary=True))
            self.outcomes["grpc/gzip"] = told(answer)
        client = InferenceGRPCClient(self.at["iris_grpc"])
        await client.close()

    async def closed(self) -> None:
        client = InferenceRESTClient()
        await client.close()
        try:
            await client.is_server_live(self.at["iris_http"])
        except RuntimeError as why:
            self.outcomes["v1/closed"] = str(why)


def watched(kind: type, called: set[str]) -> None:
    """Notes which public methods of a class are called."""

    def noting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*words: Any, **options: Any) -> Any:
            called.add(f"{kind.__name__}.{name}")
            return method(*words, **options)

        return noted

    for name, method in public(kind).items():
        setattr(kind, name, noting(name, method))


def public(kind: type) -> dict[str, Callable[..., Any]]:
    """The public methods of a class."""
    found = inspect.getmembers(kind, inspect.isfunction)
    return {name: method for name, method in found if not name.startswith("_")}


async def main() -> None:
    kinds = (InferenceRESTClient, InferenceGRPCClient)
    there = {f"{kind.__name__}.{name}" for kind in kinds for name in public(kind)}
    called: set[str] = set()
    for kind in kinds:
        watched(kind, called)
    exchanges = Exchanges(json.loads(sys.argv[1]))
    for part in ("v1", "v2", "tensors", "grpc", "closed"):
        await getattr(exchanges, part)()
    done = {"exchanges": exchanges.outcomes, "not called": sorted(there - called)}
    print(json.dumps({**done, "methods": sorted(there)}))


if __name__ == "__main__":
    asyncio.run(main())
