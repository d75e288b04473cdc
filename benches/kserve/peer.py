# SPDX-License-Identifier: Apache-2.0
"""KServe's scikit-learn server, written with its own package: `python peer.py --model_dir DIR ...`.

The published package has the server's framework but not this model class, which ships in an image
only; it loads a joblib file and predicts, as that one does. Run in an environment of its own.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import joblib
from kserve.utils.utils import get_predict_input, get_predict_response

from kserve import Model, ModelServer, model_server


class SKLearnModel(Model):
    """One joblib file."""

    def __init__(self, name: str, folder: str) -> None:
        super().__init__(name)
        self._folder = folder
        self._model: Any = None

    def load(self) -> bool:
        """Reads the file."""
        self._model = joblib.load(Path(self._folder) / "model.joblib")
        self.ready = True
        return True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """What the estimator predicts."""
        return get_predict_response(
            payload, self._model.predict(get_predict_input(payload)), self.name
        )


class Slow(Model):
    """Blocks for as many seconds as it is told."""

    def load(self) -> bool:
        """Nothing to read."""
        self.ready = True
        return True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Holds the event loop, as a model does that computes."""
        time.sleep(float(payload["instances"][0][0]))
        return {"predictions": [0]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[model_server.parser])
    parser.add_argument("--model_dir", required=True)
    given, _ = parser.parse_known_args()
    models: list[Model] = [SKLearnModel(given.model_name, given.model_dir), Slow("slow")]
    for model in models:
        model.load()
    ModelServer().start(models)
