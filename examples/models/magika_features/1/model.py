"""Turn the bytes of files into what Magika's network looks at.

The first and the last 1024 bytes of a file, without the white space around it, one number each;
256 stands where there is no byte. Exactly what the package magika does before it asks its network
(tests/examples compares the two), written as a Python model in Triton's format.
"""

import numpy as np
import triton_python_backend_utils as pb_utils

BLOCK = 4096
KEPT = 1024
PADDING = 256


def features(content):
    """The 2048 numbers of one file."""
    numbers = np.full(2 * KEPT, PADDING, dtype=np.int32)
    begin = np.frombuffer(content[:BLOCK].lstrip()[:KEPT], dtype=np.uint8)
    end = np.frombuffer(content[-BLOCK:].rstrip()[-KEPT:], dtype=np.uint8)
    numbers[: len(begin)] = begin
    numbers[2 * KEPT - len(end) :] = end
    return numbers


class TritonPythonModel:
    """Answers each request with one row of features for each file in it."""

    def execute(self, requests):
        """One response for each request, in order."""
        responses = []
        for request in requests:
            contents = pb_utils.get_input_tensor_by_name(request, "content").as_numpy()
            rows = np.stack([features(content) for content in contents.ravel()])
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("bytes", rows)]))
        return responses
