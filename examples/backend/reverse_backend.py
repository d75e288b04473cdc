# SPDX-License-Identifier: Apache-2.0
"""A backend of one's own: it answers with each text reversed.

One file with three methods, and one line in a model's configuration:

    backend: "reverse_backend:ReverseBackend"

Put the folder of this file on PYTHONPATH and serve `examples/backend/models`.
"""

from __future__ import annotations

import numpy as np

from nerite import Batch, Device, Executed, Model


class ReverseBackend:
    """Reverses texts, or only their words if the parameter `unit` is `word`."""

    def load(self, model: Model, device: Device) -> None:
        self.words = model.parameter("unit", "letter") == "word"

    def execute(self, batch: Batch) -> Executed:
        texts = batch.inputs["TEXT"]
        reversed_texts = np.empty(texts.shape, dtype=object)
        for place, text in np.ndenumerate(texts):
            reversed_texts[place] = self._reverse(text.decode())
        return {"REVERSED": reversed_texts}

    def unload(self) -> None:
        pass

    def _reverse(self, text: str) -> str:
        return " ".join(reversed(text.split(" "))) if self.words else text[::-1]
