# SPDX-License-Identifier: Apache-2.0
"""Ensembles beside the models in them: what these decide about an ensemble, or why it cannot be.

What is asked of the models is in `config.ensemble`; here it is found out which models there are,
which of them serve, and why others do not. Nothing is loaded here: `control` does that first.
"""

from __future__ import annotations

from nerite.config import Member, ModelConfig, circular, find_cycle, join_ensemble
from nerite.errors import ConfigError, NeriteError
from nerite.models.lifecycle import Lifecycle
from nerite.models.live import Composed, LiveModel
from nerite.models.loading import written
from nerite.models.options import LoadOptions
from nerite.models.repository import Found, Repository
from nerite.models.states import Entry, StateTable, key_of

INVALID = "Invalid argument: "


class Composition:
    """Knows the models that an ensemble is made of."""

    def __init__(
        self,
        repository: Repository,
        lifecycle: Lifecycle,
        states: StateTable,
        options: LoadOptions,
    ) -> None:
        self._repository = repository
        self._lifecycle = lifecycle
        self._states = states
        self._options = options

    def compose(self, found: Found, config: ModelConfig) -> Composed:
        """Holds an ensemble against the models in it.

        Raises:
            ConfigError: They do not fit, or are not there.
        """
        if last := find_cycle(config.name, self._reachable(config, found.namespace)):
            raise ConfigError(circular(config.name, last))
        names = {step.model for step in config.ensemble_steps}
        members = {name: self._member(name, found.namespace) for name in sorted(names)}
        there = {name: member for name, member in members.items() if member is not None}
        joined, problems = join_ensemble(config, there)
        if problems:
            raise ConfigError(*problems)
        return Composed(joined, self._labels(joined, found.namespace))

    def find(self, name: str, namespace: str) -> Found | None:
        """The model that a step means: the one of its own repository before all others.

        Raises:
            InvalidArgument: Several other namespaces have one.
        """
        return self._repository.find(name, namespace) or self._repository.find(name)

    def live(self, name: str, namespace: str) -> LiveModel | None:
        """The same, of the models that serve."""
        near = self._lifecycle.model(key_of(name, namespace))
        if near is not None:
            return near
        others = self._lifecycle.named(name)
        return others[0] if len(others) == 1 else None

    def needs(self, found: Found | None) -> list[str]:
        """The names of the models that an ensemble calls, as its configuration stands."""
        config = self._written(found)
        return [] if config is None else [step.model for step in config.ensemble_steps]

    def _written(self, found: Found | None) -> ModelConfig | None:
        if found is None or found.problem:
            return None
        try:
            return written(found, self._options)
        except (NeriteError, OSError):  # its own load tells
            return None

    def _reachable(self, config: ModelConfig, namespace: str) -> dict[str, ModelConfig]:
        """The configurations of all that an ensemble calls, as they stand."""
        configs = {config.name: config}
        waiting = [step.model for step in config.ensemble_steps]
        while waiting:
            name = waiting.pop()
            if name in configs:
                continue
            live = self.live(name, namespace)
            there = self._written(self._find(name, namespace)) if live is None else live.config
            if there is not None:
                configs[name] = there
                waiting += [step.model for step in there.ensemble_steps]
        return configs

    def _find(self, name: str, namespace: str) -> Found | None:
        try:
            return self.find(name, namespace)
        except NeriteError:  # several have it, which is as if none had
            return None

    def _member(self, name: str, namespace: str) -> Member | None:
        live = self.live(name, namespace)
        if live is not None:
            return Member(live.config, live.numbers)
        entries = self._entries(name, namespace)
        found = self._find(name, namespace)
        if found is None and not entries:
            return None
        config = self._written(found)
        reason = next((e.reason for e in entries if e.reason), "it is not loaded")
        if config is not None and config.ensemble_steps:
            return Member(config, fault=reason.removeprefix(INVALID), is_valid=False)
        version = max((e.version for e in entries if e.version is not None), default=None)
        if version is not None:
            reason = f"version {version} is at UNAVAILABLE state: {reason}"
        return Member(config, fault=reason)

    def _entries(self, name: str, namespace: str) -> list[Entry]:
        named = [entry for entry in self._states.index() if entry.name == name]
        return [entry for entry in named if entry.namespace == namespace] or named

    def _labels(self, config: ModelConfig, namespace: str) -> dict[str, list[str]]:
        writers = {
            tensor: (step.model, name)
            for step in config.ensemble_steps
            for name, tensor in step.outputs.items()
        }
        labels = {}
        for output in config.outputs:
            model, name = writers.get(output.name, ("", ""))
            live = self.live(model, namespace)
            if live is not None and name in live.labels:
                labels[output.name] = live.labels[name]
        return labels
