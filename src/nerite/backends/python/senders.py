# SPDX-License-Identifier: Apache-2.0
"""`pb_utils.InferenceResponseSender`: how a model answers that does not return its responses.

A sender may be kept after `execute` has returned and used on any thread. What happens to a response
of a decoupled model on its way to the client is the data plane's business
(`nerite._core.ResponseSender`); other models send their only response to whoever waits for the
batch (`OnlyResponse`).
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from nerite.backends.python.failures import TritonModelException
from nerite.errors import InternalError

if TYPE_CHECKING:
    from nerite.backends.contract import Answer, Request, ResponseSender

RESPONSE_COMPLETE_FINAL: Final = 1


class InferenceResponseSender:
    """Sends the responses to one request."""

    __slots__ = ("_sender",)

    def __init__(self, sender: ResponseSender) -> None:
        self._sender = sender

    def send(self, response: Any = None, flags: int = 0) -> None:
        """Sends an `InferenceResponse`, the last one with TRITONSERVER_RESPONSE_COMPLETE_FINAL."""
        if flags not in (0, RESPONSE_COMPLETE_FINAL):
            raise TritonModelException("Unable to send response. Unsupported flag provided.")
        if response is None and flags == 0:
            raise TritonModelException(
                "Inference Response object must be provided when the response flag is set to zero."
            )
        answer = None if response is None else _answer(response)
        if not self._sender.send(answer, flags == RESPONSE_COMPLETE_FINAL):
            raise TritonModelException("Unable to send response. Response sender has been closed.")

    def is_cancelled(self) -> bool:
        """Whether the client has gone away."""
        return self._sender.is_cancelled()


class OnlyResponse:
    """What a model that is not decoupled sends to one request."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._sender: weakref.ref[_SingleSender] | None = None
        self._lock = threading.Lock()
        self._came = threading.Event()
        self._answer: Answer | None = None
        self._closed = False

    def sender(self) -> ResponseSender:
        """The sender, the same one for all who hold it."""
        with self._lock:
            known = None if self._sender is None else self._sender()
            if known is None:
                known = _SingleSender(self, self._request)
                self._sender = weakref.ref(known)
            return known

    def put(self, answer: Answer | None, last: bool) -> bool:
        """Takes the response; False if the sender was closed before."""
        with self._lock:
            if answer is not None and self._answer is not None:
                raise TritonModelException(
                    "Unable to send response. Non-decoupled model cannot send more than one "
                    "response."
                )
            if answer is None and self._answer is None:
                raise TritonModelException(
                    "Unable to send response. Non-decoupled model cannot send complete final "
                    "before sending a response."
                )
            if self._closed:
                return False
            self._closed = last
            self._answer = self._answer or answer
        self._came.set()
        return True

    def abandon(self) -> None:
        """Says that nobody can send any more."""
        self._came.set()

    def wait(self) -> Answer:
        """The response, once it was sent."""
        self._came.wait()
        if self._answer is None:
            return InternalError(
                "the model let go of the response sender of this request without a response"
            )
        return self._answer


class _SingleSender:
    def __init__(self, only: OnlyResponse, request: Request) -> None:
        self._only = only
        self._request = request

    def send(self, answer: Answer | None, last: bool) -> bool:
        # The model may use its arrays again, as it may where they are copied to another process.
        if isinstance(answer, dict):
            answer = {name: array.copy() for name, array in answer.items()}
        elif isinstance(answer, tuple):
            answer = ({name: array.copy() for name, array in answer[0].items()}, answer[1])
        return self._only.put(answer, last)

    def is_cancelled(self) -> bool:
        return self._request.is_cancelled()

    def __del__(self) -> None:
        self._only.abandon()


def _answer(response: Any) -> Answer:
    try:
        error, parameters = response._error, response._parameters
        outputs = {tensor._name: tensor._array for tensor in response._tensors}
    except AttributeError as why:
        raise TypeError(
            "send() takes a pb_utils.InferenceResponse whose output_tensors are a list of "
            f"pb_utils.Tensor, not {type(response)}"
        ) from why
    if error is not None:
        failure: BaseException = error.as_exception()
        return failure
    return (outputs, parameters) if parameters else outputs
