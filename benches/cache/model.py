# SPDX-License-Identifier: Apache-2.0
"""A model whose answer takes about a millisecond of one core to compute."""

import numpy as np
import triton_python_backend_utils as pb_utils

SIZE = 1024


class TritonPythonModel:
    """Multiplies a row with a square of numbers until it is work."""

    def initialize(self, args):
        """The numbers."""
        self.weights = np.full((SIZE, SIZE), 1 / SIZE, np.float32)

    def execute(self, requests):
        """The row after eight layers."""
        answers = []
        for request in requests:
            row = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            for _ in range(8):
                row = np.tanh(row @ self.weights)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", row)]))
        return answers
