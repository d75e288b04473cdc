# SPDX-License-Identifier: Apache-2.0
"""`pb_utils`' requests and responses.

An incoming request is a thin, lazy face of the data plane's request: a model that reads one
input pays for one input. What needs a way back into the server (calls of other models,
rescheduling) refuses with a text that says so instead of pretending.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from nerite.backends.python.failures import TritonError, TritonModelException, refuse
from nerite.backends.python.senders import InferenceResponseSender, OnlyResponse
from nerite.backends.python.tensor import Tensor, incoming

if TYPE_CHECKING:
    from nerite.backends.contract import ParameterValue, Request

REQUEST_FLAG_SEQUENCE_START: Final = 1
REQUEST_FLAG_SEQUENCE_END: Final = 2
REQUEST_RELEASE_ALL: Final = 1
REQUEST_RELEASE_RESCHEDULE: Final = 2


class InferenceRequest:
    """A request that came in. Making one, to call another model, is not supported yet."""

    __slots__ = ("_arrays", "_datatypes", "_only", "_request")

    _request: Request
    _only: OnlyResponse
    """There once a model that is not decoupled has asked for the sender."""
    _arrays: Mapping[str, Any] | None
    _datatypes: Mapping[str, str]

    def __init__(self, *_args: Any, **_options: Any) -> None:
        refuse("calling other models from a Python model (pb_utils.InferenceRequest)")

    def inputs(self) -> list[Tensor]:
        """All input tensors; optional ones that the client left out are absent."""
        arrays = self._arrays
        if arrays is None:
            arrays = self._arrays = self._request.inputs
        of = self._datatypes.get
        return [incoming(name, array, of(name, "")) for name, array in arrays.items()]

    def request_id(self) -> str:
        """The client's id, or an empty string."""
        return self._request.id

    def correlation_id(self) -> int | str:
        """Which sequence the request belongs to; 0 for none."""
        return self._request.correlation_id

    def requested_output_names(self) -> list[str]:
        """The names of the outputs that the client wants."""
        return self._request.requested_outputs

    def flags(self) -> int:
        """Where in its sequence the request stands: 1 = start, 2 = end, or both."""
        return self._request.flags

    def timeout(self) -> int:
        """The client's timeout in microseconds; 0 for none."""
        return self._request.timeout_us

    def parameters(self) -> str:
        """The client's parameters as JSON text, as Triton gives them."""
        return json.dumps(dict(self._request.parameters))

    def is_cancelled(self) -> bool:
        """Whether the client has gone away."""
        return self._request.is_cancelled()

    def trace(self) -> None:
        """The trace of the request: none, until tracing comes."""

    def set_flags(self, _flags: int) -> NoReturn:
        """Belongs to calls of other models, which are not supported yet."""
        refuse("InferenceRequest.set_flags")

    def get_response_sender(self) -> InferenceResponseSender:
        """The way to answer without returning responses; it may be asked for more than once."""
        sender = self._request.response_sender()
        if sender is None:
            if not hasattr(self, "_only"):
                self._only = OnlyResponse(self._request)
            sender = self._only.sender()
        return InferenceResponseSender(sender)

    def set_release_flags(self, flags: int) -> None:
        """Accepts the default; giving a request back to the scheduler is not supported yet."""
        if flags != REQUEST_RELEASE_ALL:
            refuse("rescheduling a request (InferenceRequest.set_release_flags)")

    def exec(self, *_args: Any, **_options: Any) -> NoReturn:
        """Belongs to calls of other models, which are not supported yet."""
        refuse("InferenceRequest.exec")

    def async_exec(self, *_args: Any, **_options: Any) -> NoReturn:
        """Belongs to calls of other models, which are not supported yet."""
        refuse("InferenceRequest.async_exec")


class IncomingRequest(InferenceRequest):
    """The constructor that the backend uses; models see the class above."""

    __slots__ = ()

    def __init__(self, request: Request, datatypes: Mapping[str, str]) -> None:
        self._request = request
        self._arrays = None
        self._datatypes = datatypes


class InferenceResponse:
    """What a model answers to one request: output tensors or an error, perhaps parameters."""

    __slots__ = ("_error", "_parameters", "_tensors")

    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: TritonError | str | None = None,
        parameters: Mapping[str, ParameterValue] | None = None,
    ) -> None:
        if isinstance(error, str):
            error = TritonError(error)
        if parameters is not None:
            _check_parameters(parameters)
        self._tensors = output_tensors
        self._error = error
        self._parameters = parameters

    def output_tensors(self) -> list[Tensor]:
        """The output tensors."""
        return list(self._tensors)

    def has_error(self) -> bool:
        """Whether this is an error."""
        return self._error is not None

    def error(self) -> TritonError | None:
        """The error, if this is one."""
        return self._error

    def parameters(self) -> str:
        """The response parameters as JSON text."""
        return json.dumps(dict(self._parameters or {}))


def _check_parameters(parameters: Mapping[str, Any]) -> None:
    for key, value in parameters.items():
        if not isinstance(key, str):
            raise TritonModelException(
                f"response parameter key {key!r} is a {type(key).__name__}; a str is expected"
            )
        if not isinstance(value, bool | int | str):
            raise TritonModelException(
                f"response parameter '{key}' is a {type(value).__name__}; "
                "a bool, an int or a str is expected"
            )


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    """The input tensor of that name, or None if the client left it out."""
    arrays = request._arrays
    if arrays is None:
        arrays = request._arrays = request._request.inputs
    array = arrays.get(name)
    if array is None:
        return None
    return incoming(name, array, request._datatypes.get(name, ""))


def get_output_tensor_by_name(response: InferenceResponse, name: str) -> Tensor | None:
    """The output tensor of that name, or None if the response has none."""
    return next((tensor for tensor in response._tensors if tensor.name() == name), None)
