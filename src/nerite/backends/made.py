# SPDX-License-Identifier: Apache-2.0
"""Batches made of arrays instead of clients' requests: for warming up, and for tests of backends.

They are what `contract` calls a `Batch` and its `Request`s, so that a backend cannot tell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from nerite.backends.contract import ParameterValue, ResponseSender
from nerite.errors import InvalidArgument
from nerite.tensors import Array


@dataclasses.dataclass(slots=True)
class MadeRequest:
    """A request made of arrays."""

    inputs: Mapping[str, Array]
    rows: int = 1
    id: str = ""
    parameters: Mapping[str, ParameterValue] = dataclasses.field(default_factory=dict)
    requested_outputs: list[str] = dataclasses.field(default_factory=list)
    correlation_id: int | str = 0
    flags: int = 0
    priority: int = 0
    timeout_us: int = 0
    cancelled: bool = False
    sender: ResponseSender | None = None

    def is_cancelled(self) -> bool:
        """Whether the client has gone away."""
        return self.cancelled

    def response_sender(self) -> ResponseSender | None:
        """Where a decoupled model answers."""
        return self.sender


class MadeBatch:
    """A batch made of requests; arrays are read-only, as those of a real one are."""

    def __init__(self, requests: Sequence[MadeRequest]) -> None:
        self.requests = list(requests)

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def rows(self) -> int:
        """Rows of all requests."""
        return sum(request.rows for request in self.requests)

    @property
    def requested_outputs(self) -> list[str]:
        """Names of the outputs that any of the requests is to be answered with."""
        return list({name: None for r in self.requests for name in r.requested_outputs})

    @property
    def inputs(self) -> Mapping[str, Array]:
        """The inputs joined along the batch dimension."""
        if len(self.requests) == 1:
            return self.requests[0].inputs
        names = [list(request.inputs) for request in self.requests]
        try:
            joined = {
                name: frozen(np.concatenate([request.inputs[name] for request in self.requests]))
                for name in names[0]
            }
        except (KeyError, ValueError) as why:
            raise InvalidArgument("the requests have unequal shapes; use `requests`") from why
        return joined


def frozen(array: Array) -> Array:
    """The array, C-contiguous and read-only, as the data plane gives arrays."""
    view = np.ascontiguousarray(array).view() if array.ndim else array.copy()
    view.flags.writeable = False
    return view
