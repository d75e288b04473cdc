# SPDX-License-Identifier: Apache-2.0
"""Follow what happens on disk: load what is new or changed, unload what is gone.

What one look sees may be half of a copy, so nothing counts before two looks agree about it. A
repository that cannot be read says nothing about its models, which stay.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from nerite.errors import InvalidArgument, Unavailable
from nerite.models.control import ModelControl
from nerite.models.lifecycle import Lifecycle
from nerite.models.repository import Found, Repository
from nerite.models.states import State, StateTable, key_of

_log = logging.getLogger(__name__)

Sight = tuple[str, str]
"""What a look sees of a model: its mark, and why it could not be loaded at all."""


class Polling:
    """Looks at the repository from time to time."""

    def __init__(
        self,
        seconds: float,
        repository: Repository,
        control: ModelControl,
        lifecycle: Lifecycle,
        states: StateTable,
    ) -> None:
        self._seconds = seconds
        self._repository = repository
        self._control = control
        self._lifecycle = lifecycle
        self._states = states
        self._seen: dict[str, Sight] = {}
        self._acted_on: dict[str, Sight] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._main, name="nerite-poll", daemon=True)

    def start(self, found: Iterable[Found]) -> None:
        """Begins to look; `found` is what is being loaded already."""
        self._seen = {each.key: _sight(each) for each in found}
        self._acted_on = dict(self._seen)
        self._thread.start()

    def stop(self) -> None:
        """Looks no more."""
        self._stopped.set()

    def look(self) -> None:
        """Looks once, and acts on what the last look saw too."""
        try:
            found = self._repository.scan()
        except (OSError, InvalidArgument) as why:
            _log.warning("a model repository cannot be read, its models stay as they are: %s", why)
            return
        now = {each.key: _sight(each) for each in found}
        for each in found:
            sight = now[each.key]
            if self._is_settled(each.key, sight) and self._acted_on.get(each.key) != sight:
                self._acted_on[each.key] = sight
                self._control.refresh(each)
        for key in [k for k in self._acted_on if k not in now and k not in self._seen]:
            del self._acted_on[key]
            self._control.drop(key)
        self._seen = now
        self._forget_what_is_gone()

    def _is_settled(self, key: str, sight: Sight) -> bool:
        mark, _ = sight
        return bool(mark) and self._seen.get(key) == sight

    def _forget_what_is_gone(self) -> None:
        gone: dict[str, bool] = {}
        for entry in self._states.index():
            key = key_of(entry.name, entry.namespace)
            if key not in self._seen and key not in self._acted_on:
                ended = entry.state is State.UNAVAILABLE
                gone[key] = ended and gone.get(key, True)
        for key, ended in gone.items():
            if ended:
                self._lifecycle.forget(key)

    def _main(self) -> None:
        while not self._stopped.wait(self._seconds):
            try:
                self.look()
            except Unavailable:  # the server is stopping
                return
            except Exception:
                _log.exception("looking at the model repository")


def _sight(found: Found) -> Sight:
    return found.mark, found.problem
