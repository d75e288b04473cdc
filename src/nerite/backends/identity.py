# SPDX-License-Identifier: Apache-2.0
"""The backend that answers with its inputs: for tests, benches and learning the protocol.

It behaves as Triton's identity backend does: `OUTPUTn` is `INPUTn`, each response carries four
sample parameters, and the parameter `execute_delay_ms` makes every execution take that long.
It is the yardstick of the server's own cost, so it touches no request that it need not touch.
"""

from __future__ import annotations

import time
from typing import Final

from nerite.backends.contract import (
    Answer,
    Batch,
    Device,
    Executed,
    Model,
    Parameters,
    Request,
)
from nerite.errors import InvalidArgument

#: Triton's identity backend sends these with every response (tests/wire vectors `infer_json`).
SAMPLE_PARAMETERS: Final[Parameters] = {
    "param0": "an example string parameter",
    "param1": 42,
    "param2": False,
    "param3": 123.123,
}


class IdentityBackend:
    """Answers output by output with the input at the same place in the configuration."""

    def __init__(self) -> None:
        self._pairs: list[tuple[str, str]] = []
        self._delay = 0.0

    def load(self, model: Model, device: Device) -> None:
        """Pairs inputs with outputs; refuses what could not be answered with an input."""
        if device.kind != "CPU":
            raise InvalidArgument("'identity' backend only supports CPU instances")
        config = model.config
        self._pairs = [
            (wanted.name, given.name)
            for wanted, given in zip(config.outputs, config.inputs, strict=False)
        ]
        self._delay = _milliseconds(model, "execute_delay_ms") / 1000

    def execute(self, batch: Batch) -> Executed:
        """The gathered inputs as they are, or request by request if they do not join."""
        if self._delay:
            time.sleep(self._delay)
        try:
            inputs = batch.inputs
        except InvalidArgument:
            return [self._answer(request) for request in batch.requests]
        outputs = {wanted: inputs[given] for wanted, given in self._pairs if given in inputs}
        return outputs, SAMPLE_PARAMETERS

    def unload(self) -> None:
        """Nothing was taken."""

    def _answer(self, request: Request) -> Answer:
        inputs = request.inputs
        outputs = {wanted: inputs[given] for wanted, given in self._pairs if given in inputs}
        return outputs, SAMPLE_PARAMETERS


def _milliseconds(model: Model, key: str) -> int:
    text = model.parameter(key, "0")
    if not text.isdecimal():
        raise InvalidArgument(
            f"parameter '{key}' of model '{model.name}' is '{text}'; "
            "a whole number of milliseconds is expected"
        )
    return int(text)
