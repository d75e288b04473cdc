# SPDX-License-Identifier: Apache-2.0
"""InferenceGraphs at run time: a resource becomes a component of the gateway, or a server's own.

Steps that name a service get its URL inside the cluster, which the gateway knows as one of its own
hosts, so they go straight to the replicas; where a server runs the graph itself (`own_graphs`)
they are models of that server, by their paths alone. `serve_graph` serves a graph alone, for tests
and trials; services that it should reach by name are given with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nerite.errors import InvalidArgument
from nerite.kserve.admission import Cluster, admit_all, is_foreign
from nerite.kserve.builtin_runtimes import builtin_cluster
from nerite.kserve.documents import Object, read_files
from nerite.kserve.gateway import (
    Component,
    Gateway,
    GatewayOptions,
    Graph,
    RouteTable,
    Service,
)
from nerite.kserve.resources import Resource
from nerite.kserve.workloads import is_multi_model
from nerite.server.graphs import OwnGraph, asked_models

PathOf = Callable[[str], str]


def v1_path(service: str) -> str:
    """The path by which a graph asks a service of which nothing else is known."""
    return f"/v1/models/{service}:predict"


def v2_path(service: str) -> str:
    """The same for services that speak V2."""
    return f"/v2/models/{service}/infer"


def graph_of(
    spec: Mapping[str, Any],
    namespace: str = "default",
    path_of: PathOf = v1_path,
    propagate_headers: Sequence[str] = (),
    *,
    own: bool = False,
) -> Graph:
    """The graph of an InferenceGraph's `spec`.

    Args:
        own: Services that steps name are models of the server that runs the graph.
        path_of: What a service that a step names is asked for; KServe takes V1 unless the service
            or its runtime says V2 (`spec/kserve.md` 1.13).
    """
    host = "" if own else f".{namespace}.svc.cluster.local"
    nodes = {
        name: {**node, "steps": [_step(step, host, path_of) for step in _steps(node)]}
        for name, node in spec["nodes"].items()
    }
    whole, step = spec.get("timeout"), (spec.get("routerTimeouts") or {}).get("serviceClient")
    # KServe admits any number; one that is no time is no limit.
    whole, step = (limit if limit and limit > 0 else None for limit in (whole, step))
    return Graph(nodes, whole, step, tuple(propagate_headers))


def _steps(node: Mapping[str, Any]) -> list[Object]:
    return list(node.get("steps") or [])


def _step(step: Object, host: str, path_of: PathOf) -> Object:
    step = {key: value for key, value in step.items() if value is not None}
    if service := step.pop("serviceName", None):
        before = f"http://{service}{host}" if host else ""
        step["serviceUrl"] = f"{before}{path_of(service)}"
    return step


def path_in(cluster: Cluster, namespace: str) -> PathOf:
    """What the services of a namespace are asked for, by the protocol that each speaks."""

    def path_of(name: str) -> str:
        service = cluster.get("InferenceService", namespace, name)
        if service and is_multi_model(service.spec["predictor"]):
            # Which of its models is meant, nothing says; KServe asks the bare host too.
            return ""
        return v2_path(name) if service and _protocol(service, cluster) == "v2" else v1_path(name)

    return path_of


def _protocol(service: Resource, cluster: Cluster) -> str:
    """The protocol of a service's steps: its transformer's, its runtime's first, or its own."""
    for container in (service.spec.get("transformer") or {}).get("containers") or []:
        for variable in container.get("env") or []:
            if variable.get("name") == "PROTOCOL" and variable.get("value"):
                return str(variable["value"])
    model: Object = service.spec["predictor"].get("model") or {}
    if runtime := model.get("runtime"):
        found = cluster.get("ServingRuntime", service.namespace, runtime)
        found = found or cluster.get("ClusterServingRuntime", "", runtime)
        spoken = (found.spec.get("protocolVersions") or []) if found else []
        return next((version for version in spoken if version in ("v1", "v2")), "v1")
    return str(model.get("protocolVersion") or "v1")


def graph_service(
    graph: Resource, cluster: Cluster, propagate_headers: Sequence[str] = ()
) -> Service:
    """The service that a graph is to its clients."""
    path_of = path_in(cluster, graph.namespace)
    made = graph_of(graph.spec, graph.namespace, path_of, propagate_headers)
    return Service(graph.name, graph.namespace, [Component("graph", graph=made)])


def own_graphs(
    files: Sequence[str | Path], propagate_headers: Sequence[str] = ()
) -> tuple[OwnGraph, ...]:
    """The InferenceGraphs of some files, for a server whose models are their services.

    A `serviceUrl` may be a path of that server. Services in the files say by which protocol the
    models of their names are asked; without one it is V1, as in KServe.

    Raises:
        ConfigError: A file breaks one of KServe's rules.
        InvalidArgument: A file has no graph.
    """
    documents = []
    for file in files:
        found = [each for each in read_files([Path(file)]) if not is_foreign(each)]
        if not any(document.kind == "InferenceGraph" for document in found):
            raise InvalidArgument(f"{file} has no InferenceGraph, expected one or more")
        documents += found
    cluster = admit_all(documents, builtin_cluster(), own_paths=True)
    return tuple(
        own_graph(graph, cluster, propagate_headers) for graph in cluster.of_kind("InferenceGraph")
    )


def own_graph(graph: Resource, cluster: Cluster, propagate_headers: Sequence[str] = ()) -> OwnGraph:
    """A graph for the server whose models are its services."""
    path_of = path_in(cluster, graph.namespace)
    made = graph_of(graph.spec, graph.namespace, path_of, propagate_headers, own=True)
    asked = tuple(asked_models(dict(made.nodes)))
    return OwnGraph(graph.namespace, graph.name, made.to_json(), asked)


@contextmanager
def serve_graph(
    graph: str | Path | Mapping[str, Any],
    services: Sequence[Service] = (),
    options: GatewayOptions | None = None,
    path_of: PathOf = v1_path,
    propagate_headers: Sequence[str] = (),
) -> Iterator[Gateway]:
    """Serves one graph: a file with an InferenceGraph, or the `spec` of one.

    Raises:
        ConfigError: The file breaks one of KServe's rules.
        InvalidArgument: The file has no graph, or several.
    """
    if isinstance(graph, Mapping):
        made = graph_of(graph, "default", path_of, propagate_headers)
        served = Service("graph", components=[Component("graph", graph=made)])
    else:
        cluster = admit_all(read_files([Path(graph)]), builtin_cluster())
        served = graph_service(_only_graph(cluster, graph), cluster, propagate_headers)
    with Gateway(RouteTable([served, *services], default=0), options) as gateway:
        yield gateway


def _only_graph(cluster: Cluster, file: str | Path) -> Resource:
    graphs = cluster.of_kind("InferenceGraph")
    if len(graphs) != 1:
        raise InvalidArgument(f"{file} has {len(graphs)} InferenceGraphs, expected 1")
    return graphs[0]
