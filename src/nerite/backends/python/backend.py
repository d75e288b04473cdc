# SPDX-License-Identifier: Apache-2.0
"""Run `TritonPythonModel` classes in this process, one object per instance.

The class, its life cycle, its requests and its failures are Triton's (`spec` 6.3); only the
process is ours: a batch goes to `execute` on the instance's own thread, as arrays that nobody has
copied. A model that holds the interpreter's lock holds up the other Python models of the server.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any

from nerite.backends.contract import Answer, Batch, Device, Executed, Model, ResponseSender
from nerite.backends.python import shim
from nerite.backends.python.coroutines import Coroutines
from nerite.backends.python.failures import TritonModelException, describe, failed_requests
from nerite.backends.python.messages import IncomingRequest, InferenceResponse
from nerite.backends.python.model_config import ModelConfig
from nerite.backends.python.modules import ModelModules
from nerite.config.model import ModelConfig as Completed
from nerite.errors import InternalError, NeriteError


class PythonBackend:
    """One instance of a `TritonPythonModel`."""

    def __init__(self) -> None:
        self._object: Any = None
        self._execute: Callable[[Sequence[Any]], Any] = _no_execute
        self._instance = ""
        self._datatypes: dict[str, str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._decoupled = False
        self._coroutines: Coroutines | None = None

    @classmethod
    def complete(cls, model: Model) -> Completed:
        """What the model's own `auto_complete_config` makes of the configuration."""
        complete = getattr(_model_class(model), "auto_complete_config", None)
        if complete is None:
            return model.config
        completed = _call(complete, ModelConfig(model.config.to_dict()))
        if not isinstance(completed, ModelConfig):
            raise InternalError(
                f"auto_complete_config function in model '{model.name}' must return a valid "
                "pb.ModelConfig object."
            )
        return Completed.from_dict(completed.as_dict())

    def load(self, model: Model, device: Device) -> None:
        """Imports `model.py` and runs `initialize`."""
        self._instance = model.instance
        self._decoupled = model.config.decoupled
        self._datatypes = {
            tensor.name: "BF16" for tensor in model.config.inputs if tensor.datatype == "BF16"
        }
        self._object = _call(_model_class(model))
        initialize = getattr(self._object, "initialize", None)
        if initialize is not None:
            _call(initialize, _arguments(model, device))
        self._execute = getattr(self._object, "execute", _no_execute)

    def execute(self, batch: Batch) -> Executed | None:
        """Calls the model's `execute` and takes its responses apart."""
        if self._decoupled:
            self._stream(batch)
            return None
        of = self._datatypes
        requests = [IncomingRequest(request, of) for request in batch.requests]
        try:
            responses = self._execute(requests)
            if inspect.iscoroutine(responses):
                responses = self._finish(responses)
        except Exception as why:
            raise self._failure(why) from why
        if responses is None and any(hasattr(request, "_only") for request in requests):
            responses = [None] * len(requests)
        if type(responses) is not list:
            raise self._refusal(_wrong_return(responses, len(requests)))
        if len(responses) != len(requests):
            raise self._refusal(
                "Number of InferenceResponse objects do not match the number of InferenceRequest "
                f"objects. InferenceRequest(s) size is:{len(requests)}, and InferenceResponse(s) "
                f"size is:{len(responses)}\n"
            )
        try:
            return [
                {tensor._name: tensor._array for tensor in response._tensors}
                if type(response) is InferenceResponse
                and response._error is None
                and not response._parameters
                else self._answer(response)
                for response in responses
            ]
        except _Sent:
            pairs = zip(requests, responses, strict=True)
            return [self._sent(request, response) for request, response in pairs]
        except (AttributeError, TypeError) as why:
            raise self._refusal(
                "an InferenceResponse has output_tensors that are not a list of pb_utils.Tensor"
            ) from why

    def _stream(self, batch: Batch) -> None:
        """Calls the `execute` of a decoupled model, which sends its responses by itself."""
        requests = [IncomingRequest(request, self._datatypes) for request in batch.requests]
        try:
            returned = self._execute(requests)
        except Exception as why:
            raise self._failure(why) from why
        if inspect.iscoroutine(returned):
            if self._coroutines is None:
                self._coroutines = Coroutines(self._instance)
            senders = [request.response_sender() for request in batch.requests]
            self._coroutines.run(returned, lambda done: self._end(done, senders))
        elif returned is not None:
            raise self._refusal(_not_none(self._instance))

    def _end(self, done: Future[Any], senders: list[ResponseSender | None]) -> None:
        """Ends the requests of a coroutine that failed."""
        why = asyncio.CancelledError() if done.cancelled() else done.exception()
        if why is None and done.result() is None:
            return
        failure = self._refusal(_not_none(self._instance) if why is None else describe(why))
        for sender in senders:
            if sender is not None:
                sender.send(failure, True)

    def unload(self) -> None:
        """Runs `finalize`."""
        if self._coroutines is not None:
            self._coroutines.close()
            self._coroutines = None
        model, self._object = self._object, None
        self._execute = _no_execute
        try:
            finalize = getattr(model, "finalize", None)
            if finalize is not None:
                _call(finalize)
        finally:
            if self._loop is not None:
                self._loop.close()
                self._loop = None

    def _answer(self, response: Any) -> Answer:
        if response is None:
            raise _Sent
        if not isinstance(response, InferenceResponse):
            raise self._refusal(_no_response(response))
        if response._error is not None:
            return response._error.as_exception()
        outputs = {tensor._name: tensor._array for tensor in response._tensors}
        return (outputs, response._parameters) if response._parameters else outputs

    def _sent(self, request: IncomingRequest, response: Any) -> Answer:
        """The answer where None says that the request's sender was used, or will be."""
        if response is not None:
            return self._answer(response)
        if not hasattr(request, "_only"):
            raise self._refusal(_no_response(response))
        return request._only.wait()

    def _finish(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(coroutine)

    def _failure(self, why: Exception) -> InternalError:
        return InternalError(failed_requests(self._instance, describe(why)))

    def _refusal(self, what: str) -> InternalError:
        return InternalError(failed_requests(self._instance, what))


def _wrong_return(responses: Any, requests: int) -> str:
    # Triton never answers when execute returns None; here that is an answer like any other.
    text = f"Expected a list in the execute return, found type '{type(responses)}'."
    return f"{text} {requests} request(s) got no response." if responses is None else text


class _Sent(Exception):
    """A response is None."""


def _no_response(response: Any) -> str:
    return (
        "Expected an 'InferenceResponse' object in the execute function return list, "
        f"found type '{type(response)}'."
    )


def _not_none(instance: str) -> str:
    return (
        f"Python model '{instance}' is using the decoupled mode and the execute function must "
        "return None."
    )


def _no_execute(_requests: Sequence[Any]) -> Any:
    raise TritonModelException("the class TritonPythonModel has no method 'execute'")


def _model_class(model: Model) -> Any:
    """The class `TritonPythonModel`; all instances of a version share its module."""
    modules = model.shared.get("modules", lambda: _import(model))
    module = _call(modules.load, model.file)
    found = getattr(module, "TritonPythonModel", None)
    if found is None:
        raise InternalError(
            f"'{model.file}' of model '{model.name}' has no class TritonPythonModel"
        )
    return found


def _import(model: Model) -> ModelModules:
    file = model.file
    if not file.is_file():
        raise InternalError(
            f"model '{model.name}' has no file '{file.name}' in '{file.parent}'; "
            "the python backend expects the class TritonPythonModel in it"
        )
    shim.install()
    modules = ModelModules(f"{model.name}_{model.version}", [model.version_folder, model.folder])
    try:
        _call(modules.load, file)
    except BaseException:
        modules.close()
        raise
    return modules


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls the model's code outside of a request; its exceptions become load errors."""
    try:
        return function(*arguments)
    except (NeriteError, KeyboardInterrupt):
        raise
    except BaseException as why:
        raise InternalError(describe(why)) from why


def _arguments(model: Model, device: Device) -> dict[str, str]:
    """What `initialize` is given: strings, as Triton passes them."""
    return {
        "model_config": model.config.to_json(),
        "model_instance_kind": device.kind,
        "model_instance_name": model.instance,
        "model_instance_device_id": str(device.id) if device.kind == "GPU" else "0",
        "model_repository": str(model.folder),
        "model_version": str(model.version),
        "model_name": model.name,
    }
