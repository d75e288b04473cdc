# SPDX-License-Identifier: Apache-2.0
"""A small client of the v2 protocol over HTTP, on the standard library and NumPy.

Tensors travel as bytes after the JSON header (the binary tensor data extension), so that every data
type can be sent and large ones are not spelled out. One client is one kept-alive connection, for
one thread. Whoever writes an application takes `tritonclient`; this serves the command line.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from nerite import errors
from nerite.cli.connections import DEFAULT_URL, Trust, locate

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER_LENGTH = "Inference-Header-Content-Length"

API_KEY = "NERITE_API_KEY"

#: Those that this machine knows.
_ANY_AUTHORITY = Trust()

_BY_STATUS = {
    400: errors.InvalidArgument,
    401: errors.Unauthenticated,
    403: errors.PermissionDenied,
    404: errors.NotFound,
    501: errors.Unsupported,
    503: errors.Unavailable,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array with the protocol's name of its data type."""

    datatype: str
    array: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to one inference request."""

    model: str
    version: str
    outputs: Mapping[str, Tensor]
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Client:
    """Asks one server; `url` may leave out the scheme, or be `unix:` and the path of a socket.

    Raises, from every method:
        Unavailable: Nothing answers at the address.
        NeriteError: The server refused, with its text.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        api_key: str = "",
        timeout: float | None = 60.0,
        trust: Trust = _ANY_AUTHORITY,
    ) -> None:
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        if not (api_key.isascii() and api_key.isprintable()):
            raise errors.InvalidArgument("the API key has characters that no header can carry")
        address = locate(url, trust, timeout)
        self.url, self._base = address.shown, address.base
        self._connection = address.connection

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def get(self, path: str) -> Any:
        """The JSON document at `path`."""
        return _parsed(self._exchange("GET", path, b"", {})[1])

    def post(self, path: str, document: object) -> Any:
        """The JSON answer to a JSON document."""
        headers = {"Content-Type": "application/json"}
        return _parsed(self._exchange("POST", path, json.dumps(document).encode(), headers)[1])

    def index(self) -> list[dict[str, str]]:
        """Every model version that the server knows, with state and reason."""
        models: list[dict[str, str]] = self.post("/v2/repository/index", {})
        return models

    def load(self, model: str, parameters: Mapping[str, str] | None = None) -> None:
        """Loads a model; `parameters` may bring its configuration and files."""
        self.post(_control_path(model, "load"), {"parameters": dict(parameters or {})})

    def unload(self, model: str, *, dependents: bool = False) -> None:
        """Unloads a model."""
        asked = {"parameters": {"unload_dependents": dependents}}
        self.post(_control_path(model, "unload"), asked)

    def metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """A model's inputs and outputs."""
        document: dict[str, Any] = self.get(model_path(model, version))
        return document

    def statistics(self, model: str) -> list[dict[str, Any]]:
        """The statistics of each ready version of a model."""
        found: list[dict[str, Any]] = self.get(f"{model_path(model)}/stats")["model_stats"]
        return found

    def infer(self, model: str, inputs: Mapping[str, Tensor], version: str = "") -> Answer:
        """Runs a model once."""
        header, blobs = _request(inputs)
        headers = {HEADER_LENGTH: str(len(header)), "Content-Type": "application/octet-stream"}
        path = f"{model_path(model, version)}/infer"
        length, body = self._exchange("POST", path, b"".join([header, *blobs]), headers)
        return _answer(body, length)

    def _exchange(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int | None, bytes]:
        """Sends one request; returns the length of the JSON part, if told, and the body."""
        try:
            sent = {**self._headers, **headers}
            self._connection.request(method, self._base + path, body, sent)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as cause:
            self._connection.close()
            reason = str(cause) or type(cause).__name__
            if isinstance(cause, ssl.SSLCertVerificationError):
                reason += "; --ca-file names the authorities to believe, --insecure asks for none"
            raise errors.Unavailable(f"no answer from {self.url}: {reason}") from cause
        if response.status >= 400:
            raise _refusal(response.status, content, f"{method} {self.url}{self._base}{path}")
        length = response.getheader(HEADER_LENGTH)
        return (int(length) if length else None), content


def model_path(model: str, version: str = "") -> str:
    """The resource of a model or of one of its versions."""
    path = f"/v2/models/{quote(model, safe='')}"
    return f"{path}/versions/{version}" if version else path


def _control_path(model: str, verb: str) -> str:
    return f"/v2/repository/models/{quote(model, safe='')}/{verb}"


def _request(inputs: Mapping[str, Tensor]) -> tuple[bytes, list[bytes]]:
    described, blobs = [], []
    for name, tensor in inputs.items():
        blob = _encoded(tensor)
        described.append(
            {
                "name": name,
                "datatype": tensor.datatype,
                "shape": list(tensor.array.shape),
                "parameters": {"binary_data_size": len(blob)},
            }
        )
        blobs.append(blob)
    document = {"inputs": described, "parameters": {"binary_data_output": True}}
    return json.dumps(document).encode(), blobs


def _answer(body: bytes, header_length: int | None) -> Answer:
    """Reads the JSON part and the tensors behind it, in the order of the outputs."""
    head = body if header_length is None else body[:header_length]
    document = _parsed(head)
    rest = memoryview(body)[len(head) :]
    outputs: dict[str, Tensor] = {}
    for output in document.get("outputs", []):
        size = output.get("parameters", {}).get("binary_data_size")
        blob, rest = (None, rest) if size is None else (bytes(rest[:size]), rest[size:])
        outputs[output["name"]] = Tensor(output["datatype"], _decoded(output, blob))
    return Answer(
        document["model_name"],
        document.get("model_version", ""),
        outputs,
        document.get("parameters", {}),
    )


def _encoded(tensor: Tensor) -> bytes:
    from nerite import tensors

    if tensor.datatype == "BYTES":
        return tensors.serialize_bytes(tensor.array)
    return tensor.array.tobytes()


def _decoded(output: Mapping[str, Any], blob: bytes | None) -> NDArray[Any]:
    import numpy as np

    from nerite import tensors

    shape, datatype = tuple(output["shape"]), output["datatype"]
    if blob is None:  # a server that does not know the extension
        return np.array(output.get("data", []), dtype=tensors.dtype_of(datatype)).reshape(shape)
    if datatype == "BYTES":
        return tensors.deserialize_bytes(blob).reshape(shape)
    return np.frombuffer(blob, dtype=tensors.dtype_of(datatype)).reshape(shape)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content) if content else {}
    except ValueError as cause:
        shown = content[:80].decode("utf-8", "replace")
        raise errors.InternalError(f"the server's answer is not JSON: {shown!r}") from cause


def _refusal(status: int, content: bytes, what: str) -> errors.NeriteError:
    """The error that the server told, under the class that its status stands for."""
    try:
        text = str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        text = f"{what} was answered with status {status}"
    return _BY_STATUS.get(status, errors.InternalError)(text)
