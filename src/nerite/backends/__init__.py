# SPDX-License-Identifier: Apache-2.0
"""How one model instance runs: the contract, the registry of names, and one file per backend.

`contract` is what an author implements, `registry` finds an implementation by name. A backend
knows arrays and files; it knows neither sockets nor queues (those are the data plane's) nor which
models are live (`nerite.models`). Heavy packages are imported inside the backend that needs them.
"""

from nerite.backends.contract import (
    Answer,
    AutoCompletes,
    Backend,
    Batch,
    Device,
    Executed,
    Memory,
    Model,
    Outputs,
    Request,
    Shared,
    TellsMemory,
)

__all__ = [
    "Answer",
    "AutoCompletes",
    "Backend",
    "Batch",
    "Device",
    "Executed",
    "Memory",
    "Model",
    "Outputs",
    "Request",
    "Shared",
    "TellsMemory",
]
