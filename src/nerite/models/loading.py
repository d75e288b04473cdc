# SPDX-License-Identifier: Apache-2.0
"""Take one model from its folder to versions whose instances run, and back.

Nothing here decides when or whether: `lifecycle` does. A load either yields all versions that the
policy asks for or leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from nerite.backends import registry
from nerite.backends.contract import AutoCompletes, Backend, Device, Model, Shared
from nerite.config import (
    InstanceGroup,
    LoadedConfig,
    ModelConfig,
    Request,
    Settings,
    choose_versions,
    find_versions,
)
from nerite.config.read import examine, read_written
from nerite.config.rules.identity import AGENTS
from nerite.errors import ConfigError, InvalidArgument, Unsupported
from nerite.models.host_policy import HostPolicy, policy_name
from nerite.models.instance import Instance
from nerite.models.live import Composed, LiveModel, LiveVersion
from nerite.models.options import LoadOptions
from nerite.models.repository import Found
from nerite.models.unsupported import refuse_unsupported
from nerite.models.warmup import Warmup, warmups
from nerite.stores.agents import Prepared
from nerite.stores.local import resolve_inside

if TYPE_CHECKING:
    from nerite._core import Version


class Adds(Protocol):
    """The part of `nerite._core.Engine` that loading uses."""

    def add_version(
        self, config_json: str, config_proto: bytes, version: int, labels: dict[str, list[str]]
    ) -> Version: ...


class Loading:
    """One load of one model."""

    def __init__(self, found: Found, options: LoadOptions) -> None:
        self._found = found
        self._folder = found.folder
        self._prepared = Prepared()
        self._options = options
        self._shared: dict[Path, Shared] = {}
        self.versions: tuple[int, ...] = ()
        """The versions that are being loaded, as far as they are known."""

    def read(self) -> LoadedConfig:
        """Reads, completes and checks the configuration; the backend is asked for what it knows.

        Repository agents that the configuration names act first, and may lead to another folder.
        """
        found, options = self._found, self._options
        self._folder = self._prepared.run(_agents(found, options), found.folder)
        request = Request(
            name=found.name,
            auto_complete=options.auto_complete,
            config_name=options.config_name,
            override_json=found.override_json,
            inferrer=self._infer if options.auto_complete else None,
            settings=options.settings,
            renamed=found.renamed,
        )
        examined = examine(self._folder, request)
        self.versions = examined.versions
        if examined.problems or examined.config is None:
            raise ConfigError(*examined.problems)
        return LoadedConfig(
            examined.config,
            examined.versions,
            self._folder,
            examined.file,
            tuple(examined.warnings),
            examined.positions,
        )

    def serve(self, engine: Adds, loaded: LoadedConfig, composed: Composed) -> LiveModel:
        """Starts the instances of every version; an ensemble has none."""
        config = composed.config
        kind: type[Backend] | None = None
        if config.ensemble_steps:
            refuse_unsupported(config)
        else:
            kind = self._backend(config, self._version_folder(loaded.versions[-1]))
        labels = {**composed.labels, **_labels(config, self._folder)}
        live = LiveModel(
            config.name,
            config,
            [],
            self._found,
            self._prepared,
            loaded.warnings,
            labels,
            composed.labels,
        )
        warm = warmups(config, self._folder)
        try:
            for number in loaded.versions:
                core = engine.add_version(config.to_json(), config.to_proto(), number, labels)
                if self._found.namespace:
                    core.set_namespace(self._found.namespace)
                folder = self._version_folder(number)
                version = LiveVersion(number, core, self._shared.setdefault(folder, Shared()))
                live.versions.append(version)
                if kind is not None:
                    self._start(version, kind, config, warm)
                    core.set_memory_usage(version.memory())
        except BaseException:
            for version in live.versions:
                version.stop()
            raise
        return live

    def close(self) -> None:
        """Lets go of what completing the configuration opened; for a load that failed."""
        for shared in self._shared.values():
            shared.clear()
        self._prepared.release()

    def _start(
        self,
        version: LiveVersion,
        kind: type[Backend],
        config: ModelConfig,
        warm: tuple[Warmup, ...],
    ) -> None:
        """Starts the instances one after the other.

        Models in this process share its globals: initializing two at once is a race that Triton's
        process per instance does not have.
        """
        folder = self._version_folder(version.number)
        for name, device, policy in _placements(config, self._options):
            model = self._model(config, version.number, folder, name)
            instance = Instance(kind, model, device, version.core, warmups=warm, policy=policy)
            instance.start()
            version.instances.append(instance)

    def _infer(self, config: ModelConfig, version_dir: Path, settings: Settings) -> ModelConfig:
        """The `Inferrer` that configurations are read with; the settings are its own already."""
        del settings
        if config.backend == "" or config.scheduling == "ensemble":
            return config
        folder = version_dir.resolve()
        found = tuple(find_versions(self._folder).folders)
        # Kept for the case that the backend refuses: these are the versions that are unavailable.
        self.versions, _ = choose_versions(found, config.version_policy, config.name)
        kind = self._backend(config, folder)
        if not hasattr(kind, "complete"):
            return config
        model = self._model(config, int(version_dir.name), folder, config.name)
        return cast(AutoCompletes, kind).complete(model)

    def _backend(self, config: ModelConfig, folder: Path) -> type[Backend]:
        _refuse_asked_code(self._found, config.backend, "backend", self._options)
        refuse_unsupported(config)
        model = self._model(config, 0, folder, "")
        registry.check_runtime(model, config.backend)
        return registry.find(config.backend)

    def _model(self, config: ModelConfig, version: int, folder: Path, instance: str) -> Model:
        linked = self._found.linked
        return Model(
            config=config,
            version=version,
            folder=folder if linked else self._folder.resolve(),
            version_folder=folder,
            instance=instance,
            settings=self._options.settings.for_backend(config.backend),
            shared=self._shared.setdefault(folder, Shared()),
            trusted=self._options.trusted,
        )

    def _version_folder(self, number: int) -> Path:
        return (self._folder / str(number)).resolve()


def written(found: Found, options: LoadOptions) -> ModelConfig:
    """A configuration as it stands, neither completed nor checked."""
    return read_written(
        found.folder, config_name=options.config_name, override_json=found.override_json
    )


def _placements(
    config: ModelConfig, options: LoadOptions
) -> Iterator[tuple[str, Device, HostPolicy | None]]:
    """Name, device and host policy of every instance that is to run."""
    active = [group for group in config.instance_groups if not group.passive]
    for group in active:
        for index in range(group.count):
            kind = group.kind.removeprefix("KIND_")
            for gpu in group.gpus if kind == "GPU" else (0,):
                suffix = f"{index}_gpu_{gpu}" if kind == "GPU" else str(index)
                policy = options.host_policies.get(policy_name(group, gpu))
                cores = () if policy is None else policy.cores
                threads = _threads(cores, active, options)
                yield f"{group.name}_{suffix}", Device(kind, gpu, threads, cores), policy


def _threads(cores: tuple[int, ...], active: list[InstanceGroup], options: LoadOptions) -> int:
    """How many cores an instance may keep busy that is pinned to `cores`, or to none.

    An instance computes on its own thread too: with two instances on eight cores each may use
    seven, six of them from a pool that they share.
    """
    policies = [options.host_policies.get(policy_name(group)) for group in active]
    company = sum(
        group.count
        for group, policy in zip(active, policies, strict=True)
        if cores == (() if policy is None else policy.cores)
    )
    usable = min(len(cores), options.cores) if cores else options.cores
    return max(1, usable - company + 1)


def _labels(config: ModelConfig, folder: Path) -> dict[str, list[str]]:
    """Output name -> class labels; the file is named by the configuration, so it is resolved."""
    labels = {}
    for output in config.outputs:
        if output.label_filename:
            file = resolve_inside(folder, output.label_filename)
            try:
                labels[output.name] = file.read_text().splitlines()
            except (OSError, UnicodeDecodeError) as why:
                raise InvalidArgument(
                    f"label file '{output.label_filename}' of output '{output.name}' of model "
                    f"'{config.name}' cannot be read: {why}"
                ) from why
    return labels


def _agents(found: Found, options: LoadOptions) -> tuple[tuple[str, dict[str, str]], ...]:
    """The agents that a configuration names; none if it cannot be read, which is told elsewhere."""
    try:
        config = written(found, options)
    except (ConfigError, OSError):
        return ()
    # A name that is none is told with file and line when the configuration is checked.
    if not all(":" in name or name in AGENTS for name, _ in config.agents):
        return ()
    for name, _ in config.agents:
        _refuse_asked_code(found, name, "repository agent", options)
    return config.agents


def _refuse_asked_code(found: Found, name: str, what: str, options: LoadOptions) -> None:
    """Refuses to run code that came with a request, or that only a request chose.

    Whoever reaches the port could send or choose it; what lies in the repository, the operator put
    there.
    """
    if options.trusted:
        return
    if found.asked and ":" in name:
        raise Unsupported(
            f"the configuration sent for model '{found.name}' names the {what} '{name}'; classes "
            "are taken from the model repository's configuration, or start the server with --trust"
        )
    if found.sent and name == "python":
        raise Unsupported(
            f"model '{found.name}' was sent as Python code, which would run here as it is; "
            "put it into the model repository, or start the server with --trust"
        )
