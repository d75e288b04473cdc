# SPDX-License-Identifier: Apache-2.0
"""The identity as a class that gets a whole batch at once, which is Nerite's own contract.

Named in a configuration as `backend: "benches.load.models.identity_class:IdentityClass"`; the
server is started in the checkout, so that this module can be imported there.
"""

from __future__ import annotations

from typing import Any


class IdentityClass:
    """Gives the batch back as one array; the server cuts it into responses."""

    def load(self, model: Any, device: Any) -> None:
        """Nothing to load."""

    def execute(self, batch: Any) -> dict[str, Any]:
        """One mapping for all requests of the batch."""
        return {"OUTPUT0": batch.inputs["INPUT0"]}

    def unload(self) -> None:
        """Nothing to give back."""
