# SPDX-License-Identifier: Apache-2.0
"""The identity model in Triton's Python format, served unchanged by Triton and by Nerite."""

from __future__ import annotations

from typing import Any

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Gives every request its input back; a batch arrives as a list of requests."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request, in their order."""
        responses = []
        for request in requests:
            values = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            output = pb_utils.Tensor("OUTPUT0", values)
            responses.append(pb_utils.InferenceResponse(output_tensors=[output]))
        return responses
