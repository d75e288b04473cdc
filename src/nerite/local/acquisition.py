# SPDX-License-Identifier: Apache-2.0
"""The sources of a component on their way here: fetched elsewhere, again and again if that fails.

Belongs to the supervisor's thread; only the fetching itself is in another one, and nobody waits for
it once it is not wanted any more. What is fetched lies below `folder`, or where it lay already.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from nerite.downloads.sources import without_secrets
from nerite.errors import NeriteError
from nerite.local.components import Component
from nerite.local.fetching import FETCH_LOG, Abandoned, FetchReport
from nerite.local.storage import is_elsewhere
from nerite.local.tools import Tools

_log = logging.getLogger(__name__)
Post = Callable[[Callable[[float], None]], None]
Arrange = Callable[[Path, int], Path]


class Acquisition:
    """See the module."""

    def __init__(
        self, component: Component, folder: Path, tools: Tools, post: Post, arrange: Arrange
    ) -> None:
        """`arrange` gives the path under which the content of the source of a number is seen."""
        self.folder = folder
        self.folders: dict[str, str] | None = None
        """Mount path -> where its content is; None before everything is here."""
        self.problem = ""
        self.is_wanted = True
        self._component = component
        self._tools = tools
        self._post = post
        self._arrange = arrange
        self._fetching = False
        self._progress = ""
        self._failures = 0
        self._due = 0.0
        self._is_gone = False

    @property
    def due(self) -> float:
        """When `act` has something to do; never, once everything is here."""
        busy = self._fetching or self.folders is not None or not self.is_wanted
        return float("inf") if busy else self._due

    @property
    def progress(self) -> str:
        """How far the fetching is."""
        return self._progress if self._fetching else ""

    @property
    def is_fetching(self) -> bool:
        """Whether somebody is at it just now."""
        return self._fetching

    def act(self, now: float) -> bool:
        """Begins to fetch if that is due; whether everything is here."""
        if now >= self.due:
            self._fetching = True
            self._tools.background(self._fetch_elsewhere)
        return self.folders is not None

    def drop(self) -> None:
        """Nothing of it is needed any more."""
        self.is_wanted, self._is_gone = False, True
        shutil.rmtree(self.folder, ignore_errors=True)

    def _fetch_elsewhere(self) -> None:
        folders: dict[str, str] = {}
        try:
            for i, source in enumerate(self._component.sources):
                content = self._content(source.uri, self.folder / f"fetched-{i}")
                folders[source.mount_path] = str(self._arrange(content, i))
            problem = ""
        except Abandoned:
            return
        except (NeriteError, OSError) as error:
            problem = str(error)
        except Exception as error:
            # Whatever a store raises: a copy that is never told of the end of its fetch never ends.
            _log.exception("%s: fetching failed", self._component.key)
            problem = f"fetching failed: {error!r}"
        finally:
            if self._is_gone:
                shutil.rmtree(self.folder, ignore_errors=True)
        if problem:
            self._post(lambda now: self._not_fetched(problem, now))
        else:
            self._post(lambda _: self._fetched(folders))

    def _content(self, uri: str, destination: Path) -> Path:
        fetch = self._tools.storage.fetch
        if not is_elsewhere(uri):
            return fetch(uri, destination)
        log = self._tools.log(self._component, FETCH_LOG)
        told = FetchReport(self._note, log.write, lambda: not self.is_wanted)
        with told.about(without_secrets(uri)):
            return fetch(uri, destination, dict(self._component.credentials), told)

    def _note(self, progress: str) -> None:
        def note(_: float) -> None:
            self._progress = progress

        self._post(note)

    def _fetched(self, folders: dict[str, str]) -> None:
        self._fetching, self.folders, self.problem = False, folders, ""

    def _not_fetched(self, problem: str, now: float) -> None:
        self._fetching, self.problem = False, problem
        self._due = now + self._tools.patience.after_failures(self._failures)
        self._failures += 1
