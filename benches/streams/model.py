# SPDX-License-Identifier: Apache-2.0
"""The measured model, in Triton's Python format: N responses of one number each."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Sends 0 to N - 1 as fast as it can."""

    def execute(self, requests):
        """Answers through the senders, as a decoupled model does."""
        for request in requests:
            sender = request.get_response_sender()
            count = int(pb_utils.get_input_tensor_by_name(request, "N").as_numpy().item())
            for i in range(count):
                tensor = pb_utils.Tensor("OUT", np.array([i], np.int32))
                sender.send(pb_utils.InferenceResponse([tensor]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
