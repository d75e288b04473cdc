# SPDX-License-Identifier: Apache-2.0
"""What happens to models, as lines of the log."""

from __future__ import annotations

import logging

from nerite.models.events import ModelEvent
from nerite.models.states import UNLOADED, State

_log = logging.getLogger(__name__)


def log_event(event: ModelEvent) -> None:
    """Writes a line for each version that an event is about."""
    names = [f"'{event.name}' version {number}" for number in event.versions]
    for name in names or [f"'{event.name}'"]:
        if event.state is State.READY:
            _log.info("successfully loaded %s in %.3f s", name, event.seconds)
        elif event.state is State.UNAVAILABLE and event.reason != UNLOADED:
            _log.error("failed to load %s: %s", name, event.reason)
        else:
            words = {State.LOADING: "loading", State.UNLOADING: "unloading"}
            _log.info("%s: %s", words.get(event.state, "successfully unloaded"), name)
