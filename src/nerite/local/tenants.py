# SPDX-License-Identifier: Apache-2.0
"""One revision of a model that lives in the process of another component's copy: its host.

A tenant fetches its model, links it into the host's repository and has it loaded: again after
every restart of the process, and with growing pauses if it fails. To the supervisor it is a copy
like any other, and it belongs to the same thread; the host is only told things elsewhere.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from nerite.errors import NeriteError, Unsupported
from nerite.local.acquisition import Acquisition, Post
from nerite.local.components import SHARED, Component
from nerite.local.copies import Copy
from nerite.local.copy_view import CopyView
from nerite.local.rollout import CopyState
from nerite.local.storage import lay_out, lay_out_alone
from nerite.local.tools import Tools

_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Lodging:
    """A model and the copy in whose process it is to live."""

    component: Component
    host: Copy

    @property
    def name(self) -> str:
        """Differs exactly if it has to be loaded anew, or elsewhere."""
        return f"{self.component.digest}@{self.host.number}"


class Tenant:
    """See the module."""

    hosts: Mapping[str, str] = MappingProxyType({})
    """Nobody is told to a model."""

    def __init__(self, number: int, lodging: Lodging, tools: Tools, post: Post, now: float) -> None:
        self.number = number
        self.revision = lodging.name
        self.component = component = lodging.component
        self.host = host = lodging.host
        self.is_stopping = False
        self._is_proven = False
        self.problem = ""
        self.unfit = ""
        self._tools = tools
        self._post = post
        folder = tools.folder / component.namespace / f"{component.name}-{number}"
        self._models = Acquisition(component, folder, tools, post, self._as_seen)
        self._loaded_in: tuple[int, ...] = ()
        """The processes of the host in which it was loaded; others know nothing of it."""
        self._busy = False
        self._has_ended = False
        self._failures = 0
        self._due = 0.0
        self._born = now
        self._restarts_before = host.view().restarts

    # What others ask.

    @property
    def has_ended(self) -> bool:
        """Whether it was stopped and nothing of it is left."""
        return self._has_ended

    @property
    def is_loaded(self) -> bool:
        """Whether the process that runs now has it."""
        return bool(self._loaded_in) and self._loaded_in == self.host.incarnation

    @property
    def is_moving_in(self) -> bool:
        """Whether its host is just loading it."""
        return self._busy and not self.is_stopping

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        return self.host.is_ready and self.is_loaded

    @property
    def is_settled(self) -> bool:
        """Whether it answers, or has told why it does not."""
        return self.is_loaded or bool(self.problem or self._models.problem)

    @property
    def address(self) -> str:
        """Host and port on which it answers."""
        return self.host.address

    def state(self) -> CopyState:
        """What the rollout has to know."""
        self._is_proven |= self.is_ready
        number, revision = self.number, self.revision
        return CopyState(number, revision, self.is_ready, self.is_stopping, self._is_proven)

    def due(self) -> float:
        """When `act` has something to do."""
        if self._models.folders is None and not self.is_stopping:
            return self._models.due
        return self._next() if self._task() else _NEVER

    def _next(self) -> float:
        """When its task is due; nobody waits for what is over anyway."""
        return 0.0 if self.is_stopping and not self._host_goes_on else self._due

    # What it does.

    def act(self, now: float) -> None:
        """Does what is due."""
        if not self.is_stopping and not self._models.act(now):
            return
        task = self._task()
        if task is not None and now >= self._next():
            task()

    def _task(self) -> Callable[[], None] | None:
        """What there is to do, whenever that may be."""
        if self._busy or self._has_ended:
            return None
        is_others_turn = self.component.model in self.host.busy
        if self.is_stopping:
            if not self._is_to_unload:
                return self._end
            return None if is_others_turn else self._unload
        # One whose place a later one has taken never takes it back.
        is_over = self.host.owners.get(self.component.model, 0) > self.number
        waits = self.is_loaded or not self.host.is_ready or not self._host_goes_on
        return None if self.unfit or is_over or waits or is_others_turn else self._load

    @property
    def _is_to_unload(self) -> bool:
        """Whether the process would keep it otherwise; not if another revision took its place."""
        owns = self.host.owners.get(self.component.model) == self.number
        return owns and self._host_goes_on

    @property
    def _host_goes_on(self) -> bool:
        return not self.host.is_stopping

    def stop(self, now: float) -> None:
        """Ends it, a moment later: requests that were sent before others answer still come."""
        if self.is_stopping:
            return
        self.is_stopping = True
        self._models.is_wanted = False
        self._due = now + self._tools.patience.linger if self._is_to_unload else now

    def clean_up(self) -> None:
        """Its content is not needed any more."""
        self._models.drop()

    def _end(self) -> None:
        self._has_ended = True

    # Loading and unloading, elsewhere.

    def _begin(self, work: Callable[[str], None], done: Callable[[str, float], None]) -> None:
        """Does `work` with the host's address in another thread, then calls `done` in this one."""
        self._busy, address = True, self.host.address
        self.host.busy.add(self.component.model)

        def elsewhere() -> None:
            problem = ""
            try:
                work(address)
            except (NeriteError, OSError) as error:
                problem = str(error)
            self._post(lambda now: finished(problem, now))

        def finished(problem: str, now: float) -> None:
            self._busy = False
            self.host.busy.discard(self.component.model)
            done(problem, now)

        self._tools.background(elsewhere)

    def _load(self) -> None:
        incarnation = self.host.incarnation

        def work(address: str) -> None:
            before = self._links()
            try:
                self._tools.models.load(address, self.component.model)
            except NeriteError:
                # What serves under this name goes on, also in a process that is started anew.
                self._put_back(before)
                raise

        self._begin(work, lambda problem, now: self._tried(problem, incarnation, now))

    def _tried(self, problem: str, incarnation: tuple[int, ...], now: float) -> None:
        if not problem:
            self._loaded_in, self.problem, self._failures = incarnation, "", 0
            self.host.owners[self.component.model] = self.number
            return
        if self.host.incarnation != incarnation:
            # It may be what ended the process; the others are loaded before it tries again.
            problem = f"the process ended while '{self.component.model}' was being loaded"
        self.problem = problem
        if not self.is_stopping:
            self._due = now + self._tools.patience.after_failures(self._failures)
            self._failures += 1

    def _unload(self) -> None:
        def work(address: str) -> None:
            self._link.unlink(missing_ok=True)
            self._tools.models.unload(address, self.component.model)

        def done(problem: str, now: float) -> None:
            # A process that does not answer is ending, and the next one loads what is linked.
            if self.host.owners.get(self.component.model) == self.number:
                del self.host.owners[self.component.model]
            self._end()

        self._begin(work, done)

    # Files.

    def _as_seen(self, content: Path, number: int) -> Path:
        """The folder of the one model; called from the thread that fetches."""
        name = self.component.model
        folder = self._models.folder / f"repository-{number}"
        if self.component.lives_in != SHARED:
            return self._marked(lay_out_alone(content, name, folder))
        if lay_out(content, name, folder) != folder:
            why = f"'{content.name}' has names of its own for its models, which others may have too"
            self._post(lambda _: self._is_unfit(why))
            raise Unsupported(f"it cannot share a process: {why}")
        return self._marked(folder / name)

    def _marked(self, content: Path) -> Path:
        """The same model in a folder that no other has, so that it is not taken for unchanged.

        Files of two revisions may agree in name, size and time.
        """
        made = self._models.folder / "model"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        (made / f".revision-{self.number}").touch()
        for entry in content.resolve().iterdir():
            (made / entry.name).symlink_to(entry)
        return made

    def _is_unfit(self, why: str) -> None:
        self.unfit = why

    @property
    def _link(self) -> Path:
        return self.host.repository / self.component.model

    def _links(self) -> Path | None:
        """Puts the model into the host's repository; what stood there under its name."""
        link = self._link
        before = link.readlink() if link.is_symlink() else None
        (content,) = (self._models.folders or {}).values()
        self._put(Path(content))
        return before

    def _put_back(self, before: Path | None) -> None:
        if before is None:
            self._link.unlink(missing_ok=True)
        else:
            self._put(before)

    def _put(self, content: Path) -> None:
        """In one step: whoever looks sees one or the other."""
        made = self._models.folder / "link"
        made.parent.mkdir(parents=True, exist_ok=True)
        made.unlink(missing_ok=True)
        made.symlink_to(content)
        os.replace(made, self._link)

    def view(self) -> CopyView:
        """See `CopyView`."""
        host = self.host.view()
        last = host.last_exit if host.last_exit and host.last_exit.at >= self._born else None
        problem = self.problem or self._models.problem or host.problem
        return CopyView(
            self.number,
            self.component,
            self.is_ready,
            self.is_stopping,
            self._models.folders is None and not problem,
            host.port,
            host.grpc_port,
            self._loaded_in if self.is_loaded else (),
            host.restarts - self._restarts_before,
            bool(problem) or host.failing,
            problem,
            last,
            self._models.progress,
            self.host.component.key,
            self.unfit,
        )
