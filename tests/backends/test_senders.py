"""Models that answer through `get_response_sender`, decoupled and not."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nerite import errors
from nerite.backends.contract import Device
from nerite.backends.python.backend import PythonBackend
from nerite.testing import batch_of, model_for

HEAD = """
import threading
import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
GO = threading.Event()
TOLD = []


def y(value):
    return pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.float32([value]))])


def told(send, *arguments, **options):
    try:
        send(*arguments, **options)
    except pb_utils.TritonModelException as why:
        TOLD.append(str(why))


class TritonPythonModel:
"""
FIELDS = {
    "backend": "python",
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [-1]}],
    "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [-1]}],
}
LAST = "Response sender has been closed."


class Sender:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, bool]] = []

    def send(self, answer: Any, last: bool) -> bool:
        self.sent.append((answer, last))
        return True

    def is_cancelled(self) -> bool:
        return False


def loaded(tmp_path: Path, body: str, *, decoupled: bool) -> PythonBackend:
    folder = tmp_path / "m"
    (folder / "1").mkdir(parents=True)
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (folder / "1/model.py").write_text(HEAD + lines)
    fields: dict[str, Any] = {**FIELDS, "model_transaction_policy": {"decoupled": decoupled}}
    backend = PythonBackend()
    backend.load(model_for(folder, fields), Device())
    return backend


def xs(*values: float, **fields: Any) -> Any:
    return batch_of(*({"X": np.float32([value])} for value in values), batches=False, **fields)


def test_a_decoupled_model_sends_outputs_errors_and_an_end(tmp_path: Path) -> None:
    body = """
def execute(self, requests):
    sender = requests[0].get_response_sender()
    sender.send(y(1))
    sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("no", 3)))
    sender.send(flags=FINAL)
"""
    sender = Sender()
    assert loaded(tmp_path, body, decoupled=True).execute(xs(1, sender=sender)) is None
    (first, failure, end) = sender.sent
    assert first[0]["Y"].tolist() == [1]
    assert isinstance(failure[0], errors.InvalidArgument)
    assert str(failure[0]) == "no"
    assert end == (None, True)
    assert (first[1], failure[1]) == (False, False)


def test_a_decoupled_model_may_not_return_responses(tmp_path: Path) -> None:
    backend = loaded(tmp_path, "def execute(self, requests):\n    return [y(1)]", decoupled=True)
    text = "is using the decoupled mode and the execute function must return None"
    with pytest.raises(errors.InternalError, match=text):
        backend.execute(xs(1, sender=Sender()))


def test_a_coroutine_that_returns_responses_ends_its_requests(tmp_path: Path) -> None:
    body = "async def execute(self, requests):\n    return [y(1)]"
    backend, sender = loaded(tmp_path, body, decoupled=True), Sender()
    assert backend.execute(xs(1, sender=sender)) is None
    backend.unload()  # which waits for what runs
    ((failure, last),) = sender.sent
    assert "the execute function must return None" in str(failure)
    assert last


def test_other_models_may_use_senders_for_some_requests_or_all(tmp_path: Path) -> None:
    body = """
def execute(self, requests):
    answers = []
    for request in requests:
        x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy().item()
        if x < 0:
            answers.append(y(x))
        else:
            request.get_response_sender().send(y(x), FINAL)
            answers.append(None)
    return answers if any(answers) else None
"""
    backend = loaded(tmp_path, body, decoupled=False)
    for values in ((1, -2, 3), (4, 5)):
        answers: Any = backend.execute(xs(*values))
        assert [answer["Y"].item() for answer in answers] == list(values)


def test_a_batch_waits_for_senders_on_other_threads(tmp_path: Path) -> None:
    body = """
def execute(self, requests):
    def later(sender):
        GO.wait()
        sender.send(y(9), FINAL)
    threading.Thread(target=later, args=(requests[0].get_response_sender(),)).start()

def finalize(self):
    GO.set()
"""
    backend, answers = loaded(tmp_path, body, decoupled=False), []
    thread = threading.Thread(target=lambda: answers.append(backend.execute(xs(1))))
    thread.start()
    backend._object.finalize()
    thread.join(10)
    assert answers[0][0]["Y"].tolist() == [9]


def test_a_sender_that_is_let_go_fails_its_request_only(tmp_path: Path) -> None:
    body = """
def execute(self, requests):
    requests[0].get_response_sender()
    requests[1].get_response_sender().send(y(2), FINAL)
"""
    answers: Any = loaded(tmp_path, body, decoupled=False).execute(xs(1, 2))
    assert "let go of the response sender" in str(answers[0])
    assert answers[1]["Y"].tolist() == [2]


def test_the_only_response_is_guarded_as_tritons_is(tmp_path: Path) -> None:
    body = """
def execute(self, requests):
    sender = requests[0].get_response_sender()
    told(sender.send, flags=FINAL)
    told(sender.send, y(1), 4)
    sender.send(y(1))
    told(requests[0].get_response_sender().send, y(2), FINAL)
    sender.send(flags=FINAL)
    told(sender.send, flags=FINAL)
    return [pb_utils.InferenceResponse(error="; ".join(TOLD))]
"""
    answers: Any = loaded(tmp_path, body, decoupled=False).execute(xs(1))
    assert str(answers[0]).split("; ") == [
        f"Unable to send response. {text}"
        for text in (
            "Non-decoupled model cannot send complete final before sending a response.",
            "Unsupported flag provided.",
            "Non-decoupled model cannot send more than one response.",
            LAST,
        )
    ]


def test_none_without_a_sender_is_no_answer(tmp_path: Path) -> None:
    backend = loaded(tmp_path, "def execute(self, requests):\n    return [None]", decoupled=False)
    with pytest.raises(errors.InternalError, match="found type '<class 'NoneType'>'"):
        backend.execute(xs(1))
