# SPDX-License-Identifier: Apache-2.0
"""A running server: ports first, then models, then a stop that loses nothing.

Ports are open and the server is live before the first model is looked at; whether it is ready is
true from the moment on in which it is. Loading goes on in the background; `wait_ready` waits.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from nerite.errors import InvalidArgument, NotFound, Unavailable
from nerite.models.events import ModelEvent, Observer
from nerite.models.repository import Found, Repository
from nerite.models.states import State, StateTable
from nerite.server import environment
from nerite.server.control import serve_calls
from nerite.server.doors import Door, doors
from nerite.server.event_log import log_event
from nerite.server.key_watch import KeyWatch
from nerite.server.log_settings import LogSettings
from nerite.server.options import ServerOptions
from nerite.server.trace_loop import TraceLoop
from nerite.server.trace_settings import TraceSettings
from nerite.server.waiting import Clock, Delay
from nerite.stores.local import LocalStore, Store
from nerite.stores.named import NamedStore

if TYPE_CHECKING:
    from nerite._core import Engine
    from nerite.models.control import ModelControl
    from nerite.models.lifecycle import Lifecycle
    from nerite.server.machine_metrics import MachineMetrics
    from nerite.server.polling import Polling

_log = logging.getLogger(__name__)

#: What server metadata lists.
EXTENSIONS = (
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "cuda_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
)


class Server:
    """Serves the models of some repositories; a context manager that starts and stops it.

    with Server(ServerOptions(repositories=("models",), http_port=0)) as server:
        server.wait_ready()
    """

    def __init__(
        self, options: ServerOptions | None = None, *, observer: Observer | None = None
    ) -> None:
        """`observer` is told what happens to each model, on the thread that loads it."""
        self.options = options if options is not None else ServerOptions()
        self.log_settings = LogSettings(self.options)
        self.trace_settings = TraceSettings(self.options.tracing, self._knows)
        self._traces: TraceLoop | None = None
        self._keys: KeyWatch | None = None
        self._observer = observer
        self._states = StateTable(self._update_ready)
        self._engine: Engine | None = None
        self._lifecycle: Lifecycle | None = None
        self._repository: Repository | None = None
        self._models: ModelControl | None = None
        self._polling: Polling | None = None
        self._control: threading.Thread | None = None
        self._host: list[MachineMetrics] = []
        self._doors: dict[str, tuple[Door, int]] = {}
        self._stopping = False
        # Whoever sets the readiness last must have looked last: changes come from many threads.
        self._ready_lock = threading.Lock()
        self._started = threading.Event()
        self._delay = Delay()

    def start(self) -> Self:
        """Opens the ports and begins to load models; returns before they are loaded.

        Raises:
            NotFound: A repository does not exist.
            Unavailable: A port cannot be opened.
            ConfigError: The file of API keys is wrong.
        """
        if self._started.is_set():
            raise InvalidArgument("the server was started before; make another one")
        try:
            self._start()
        finally:
            self._started.set()
        return self

    def wait_ready(self, timeout: float | None = None) -> None:
        """Waits until every model is loaded.

        Raises:
            Unavailable: Models failed, which the text names with their reasons, or time ran out.
        """
        settled = self._states.wait_settled(timeout)
        if settled and (self._states.all_ready() or not self.options.strict_readiness):
            return
        problems = [entry for entry in self._states.index() if entry.state is not State.READY]
        told = "; ".join(
            f"model '{entry.name}' is {entry.state}" + (f": {entry.reason}" if entry.reason else "")
            for entry in problems
        )
        raise Unavailable(told or f"models are still loading after {timeout} seconds")

    def wait_started(self, timeout: float | None = None) -> bool:
        """Waits for `start`, called on another thread, to end; whether the server runs."""
        return self._started.wait(timeout) and self._lifecycle is not None

    def wait_loaded(self, timeout: float | None = None) -> bool:
        """Waits until every load has ended, well or not; whether they have."""
        return self._states.wait_settled(timeout)

    def stop(self, timeout: float | None = None) -> bool:
        """Finishes what was accepted, unloads the models, closes the ports.

        A server that was ready first goes on to serve for `drain_delay_secs`, telling that it is
        not ready. Returns whether all was finished within `timeout` from then on
        (`exit_timeout_secs` unless given).
        """
        with self._ready_lock:
            was_ready = self.ready
            engine, self._engine = self._engine, None
            if engine is None:
                return True
            self._stopping = True
            engine.set_ready(False)
        if self._polling is not None:
            self._polling.stop()
        if self._models is not None:
            self._models.close()
        if was_ready:
            self._delay.pause(self.options.drain_delay_secs)
        left = Clock(self.options.exit_timeout_secs if timeout is None else timeout)
        drained = engine.drain(left())
        unloaded = self._lifecycle is None or self._lifecycle.close(left())
        engine.stop()
        for metrics in self._host:
            metrics.stop()
        if self._control is not None:
            self._control.join(left())
        if self._traces is not None:
            self._traces.stop(left())
        if self._keys is not None:
            self._keys.stop(left())
        if self._repository is not None:
            self._repository.close()
        return drained and unloaded

    def end_delay(self) -> bool:
        """Lets a stop that waits for `drain_delay_secs` go on at once; whether one did."""
        return self._delay.end()

    @property
    def states(self) -> StateTable:
        """What is loaded, in which state, and why not."""
        return self._states

    @property
    def engine(self) -> Engine:
        """The data plane: its metrics and counters."""
        if self._engine is None:
            raise Unavailable("the server is not running")
        return self._engine

    @property
    def ready(self) -> bool:
        """What the ready endpoints answer."""
        if self._engine is None or self._stopping:
            return False
        strict = self.options.strict_readiness
        return self._states.all_ready() if strict else self._states.settled()

    @property
    def failed(self) -> bool:
        """Whether all loads have ended and a model is unavailable."""
        return self._states.settled() and not self._states.all_ready()

    @property
    def ports(self) -> dict[str, tuple[str, int]]:
        """Protocol -> address and number of the port that is open.

        The protocols are `http`, `grpc`, `metrics`, `sagemaker` and `vertex_ai`.
        """
        return {protocol: (door.address, port) for protocol, (door, port) in self._doors.items()}

    def signature(self, name: str) -> str:
        """Inputs and outputs of a model that serves: `X FP32[-1,4] -> Y FP32[-1,4]`."""
        found = self._lifecycle.named(name) if self._lifecycle is not None else []
        if not found:
            raise NotFound(f"model '{name}' is not loaded")
        from nerite.tensors import shape_text

        live = found[0]
        batch = (-1,) if live.config.max_batch_size else ()
        sides = [
            ", ".join(f"{t.name} {t.datatype}{shape_text((*batch, *t.dims))}" for t in tensors)
            for tensors in (live.config.inputs, live.config.outputs)
        ]
        return " -> ".join(sides)

    @property
    def http_url(self) -> str:
        """`http://127.0.0.1:8000`; `https://...` with TLS, `http+unix://...` for a file."""
        return self._url("http")

    @property
    def grpc_url(self) -> str:
        """`127.0.0.1:8001` or `unix:/path`, as gRPC clients take it."""
        return self._url("grpc")

    @property
    def metrics_url(self) -> str:
        """`http://127.0.0.1:8002/metrics`."""
        return f"{self._url('metrics')}/metrics"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        # Before the ports: a mistyped path should not look like a server for a moment.
        self._repository = Repository(
            stores_of(self.options), namespacing=self.options.model_namespacing
        )
        # The doors of clouds want to know which models there are; the other ports wait for no disk.
        clouds = self.options.doors
        found = self._at_start(self._repository) if clouds.sagemaker or clouds.vertex_ai else None
        engine = self._open_engine([each.name for each in found or ()])
        try:
            for graph in self.options.graphs:
                engine.put_graph(graph.namespace, graph.name, graph.definition)
            if self.options.access.api_keys:
                self._keys = KeyWatch(self.options.access.api_keys, engine.set_keys)
            self._traces = TraceLoop(engine, self.trace_settings)
            self._traces.apply()
            self._listen(engine)
            if found is None:
                found = self._at_start(self._repository)
        except BaseException:
            self._engine = None
            if self._keys is not None:
                self._keys.stop()
            engine.stop()
            raise
        self._tell_of_graphs(self._repository)
        self._begin_to_load(engine, self._repository, found)
        self._measure_machine()

    def _begin_to_load(self, engine: Engine, repository: Repository, found: list[Found]) -> None:
        # What loads models needs NumPy; whoever asks whether the server lives need not wait for it.
        from nerite.models.control import ModelControl
        from nerite.models.lifecycle import Lifecycle
        from nerite.server.repository_control import RepositoryControl

        options = self.options.load_options(environment.usable_cores())
        self._lifecycle = Lifecycle(engine, self._states, options, self._observe)
        self._models = ModelControl(repository, self._lifecycle, self._states, options)
        mode = self.options.model_control_mode
        calls = RepositoryControl(mode, self._models, self._states, repository.names)
        answers = {
            "repository_index": calls.index,
            "repository_load": calls.load,
            "repository_unload": calls.unload,
            "openapi": _openapi,
            "log_settings": self.log_settings.answer,
            "trace_settings": self.trace_settings.answer,
        }
        if self.options.doors.sagemaker:
            from nerite.models.registering import Registering
            from nerite.server.sagemaker_models import SageMakerModels

            registering = Registering(repository, self._models, self._lifecycle)
            hosted = SageMakerModels(self.options.doors.sagemaker_root, registering, calls)
            answers |= hosted.answers()
        self._control = serve_calls(engine, answers)
        self._models.start(found)
        if mode == "poll":
            from nerite.server.polling import Polling

            self._polling = Polling(
                self.options.poll_secs, repository, self._models, self._lifecycle, self._states
            )
            self._polling.start(found)

    def _measure_machine(self) -> None:
        from nerite.server.machine_metrics import machine_metrics

        self._host = machine_metrics(self.options)
        for metrics in self._host:
            metrics.start()

    def _at_start(self, repository: Repository) -> list[Found]:
        """The models that are loaded at the start."""
        found = repository.scan()
        if self.options.model_control_mode != "explicit" or "*" in self.options.load_models:
            return found
        missing = "Not found: no model repository has a model of this name"
        wanted = dict.fromkeys(self.options.load_models)
        there = {each.name for each in found}
        return [each for each in found if each.name in wanted] + [
            Found(name, Path(name), problem=missing) for name in wanted if name not in there
        ]

    def _open_engine(self, models: Sequence[str]) -> Engine:
        from nerite import _core

        options = self.options
        chosen: dict[str, Any] = {
            "server_name": options.server_id,
            "server_version": _core.__version__,
            "extensions": list(EXTENSIONS),
            "io_threads": options.io_threads or environment.usable_cores(),
            "max_request_bytes": options.max_request_bytes,
            "max_message_bytes": options.max_message_bytes,
            "max_connections": options.max_connections,
            "max_streams": options.max_streams,
            "header_timeout_secs": float(options.header_timeout_secs),
            "grpc": {
                "compression": options.grpc_compression,
                "keepalive_time_ms": options.grpc_keepalive_time_ms,
                "keepalive_timeout_ms": options.grpc_keepalive_timeout_ms,
                "max_connection_age_ms": options.grpc_max_connection_age_ms,
                "max_connection_age_grace_ms": options.grpc_max_connection_age_grace_ms,
            },
            "latency_histograms": options.latency_histograms,
            "access_log": options.access_log,
            "cache_bytes": options.cache_bytes,
            "allow_client_shm": options.allow_client_shm,
            "rate_limit": dict(options.rate_limit_resources)
            if options.rate_limit != "off"
            else None,
            "health_json": options.health_json,
            "access_log_json": options.log_format == "json",
            "latencies": {
                "counters": options.counter_latencies,
                "first_response": options.first_response_histogram,
                "summaries": options.summary_latencies,
                "quantiles": [list(pair) for pair in options.summary_quantiles],
            },
            **options.access.engine_options(),
            "doors": options.doors.engine_options(models),
        }
        self._engine = _core.Engine(chosen)
        return self._engine

    def _listen(self, engine: Engine) -> None:
        for door in doors(self.options):
            opened = engine.listen(
                door.protocol, door.address, door.port, reuse=door.reuse, tls=door.tls
            )
            self._doors[door.protocol] = (door, opened)
            for warning in door.warnings:
                _log.warning("%s", warning)
            _log.info("%s at %s", _SERVICES[door.protocol], door.told(opened))

    def _tell_of_graphs(self, repository: Repository) -> None:
        names = set(repository.names()) if self.options.graphs else set()
        if self.options.model_name:
            names = {self.options.model_name}
        for graph in self.options.graphs:
            _log.info(
                "graph '%s/%s' at %s%s", graph.namespace, graph.name, self.http_url, graph.path
            )
            for sentence in graph.missing(names):
                _log.warning("%s", sentence)

    def _url(self, protocol: str) -> str:
        if protocol not in self._doors:
            raise Unavailable(f"the {protocol} port is not open")
        door, port = self._doors[protocol]
        return door.url(port)

    def _observe(self, event: ModelEvent) -> None:
        log_event(event)
        if self._observer is not None:
            self._observer(event)

    def _knows(self, model: str) -> bool:
        return any(entry.name == model for entry in self._states.index())

    def _update_ready(self) -> None:
        with self._ready_lock:
            if self._engine is not None:
                self._engine.set_ready(self.ready)


def stores_of(options: ServerOptions) -> list[Store]:
    """Where the models of a server come from."""
    if options.model_name:
        return [NamedStore(Path(options.repositories[0]), options.model_name)]
    return [LocalStore(Path(path)) for path in options.repositories]


def _openapi(payload: Mapping[str, Any]) -> Any:
    from nerite.server.openapi import openapi

    return openapi(payload)


_SERVICES = {
    "http": "Started HTTPService",
    "grpc": "Started GRPCInferenceService",
    "metrics": "Started Metrics Service",
    "sagemaker": "Started Sagemaker HTTPService",
    "vertex_ai": "Started Vertex AI HTTPService",
}
