# SPDX-License-Identifier: Apache-2.0
"""`pb_utils.InferenceResponseSender`: how a decoupled model answers.

A sender may be kept after `execute` has returned and used on any thread. What happens to a response
on its way to the client is the data plane's business (`nerite._core.ResponseSender`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nerite.backends.python.failures import TritonModelException

if TYPE_CHECKING:
    from nerite.backends.contract import Answer, ResponseSender
    from nerite.backends.python.messages import InferenceResponse

FINAL = 1


class InferenceResponseSender:
    """Sends the responses to one request."""

    __slots__ = ("_sender",)

    def __init__(self, sender: ResponseSender) -> None:
        self._sender = sender

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        """Sends a response; with the flag TRITONSERVER_RESPONSE_COMPLETE_FINAL it is the last."""
        if flags not in (0, FINAL):
            raise TritonModelException("Unable to send response. Unsupported flag provided.")
        if response is None and flags == 0:
            raise TritonModelException(
                "Inference Response object must be provided when the response flag is set to zero."
            )
        if not self._sender.send(None if response is None else _answer(response), flags == FINAL):
            raise TritonModelException("Unable to send response. Response sender has been closed.")

    def is_cancelled(self) -> bool:
        """Whether the client has gone away."""
        return self._sender.is_cancelled()


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
