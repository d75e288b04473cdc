# SPDX-License-Identifier: Apache-2.0
"""The validating webhook's rules for InferenceGraphs, TrainedModels and storage containers.

KServe admits graphs that cannot work (cycles, unknown nodes, negative weights, URLs without a
scheme); here they are refused in words of our own, because nothing good can come of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from nerite.kserve.documents import KeyPath, Object
from nerite.kserve.refusals import Invalid
from nerite.kserve.resources import Resource
from nerite.kserve.service_rules import NAME_PATTERN, NAME_RULE
from nerite.server.graphs import PATHS, is_own_path

_TARGETS = ("nodeName", "serviceName", "serviceUrl")
_TRAINED_SCHEMES = ("s3://", "gs://", "https://", "http://")


def check_graph(graph: Resource, *, own_paths: bool = False) -> None:
    """Raise `Invalid` for the first rule that the graph breaks.

    With `own_paths` a step may be a path of the server that runs the graph.
    """
    name, nodes = graph.name, graph.spec["nodes"]
    if not re.fullmatch(NAME_PATTERN, name):
        raise Invalid(f'The InferenceGraph "{name}" is invalid: a InferenceGraph {NAME_RULE}')
    if "root" not in nodes:
        raise Invalid(
            "root node not found, InferenceGraph needs a node with name 'root' as the root node "
            "of the graph",
            ("spec", "nodes"),
        )
    for node_name, node in nodes.items():
        _check_step_names(name, node_name, node)
        for i, step in enumerate(node.get("steps", [])):
            _check_target(name, node_name, i, step, set(nodes))
            _check_url(name, node_name, i, step, own_paths)
        _check_weights(name, node_name, node)
    _check_cycles(name, nodes)


def _steps_path(node_name: str, index: int | None = None) -> KeyPath:
    path: KeyPath = ("spec", "nodes", node_name, "steps")
    return path if index is None else (*path, index)


def _check_step_names(graph: str, node_name: str, node: Object) -> None:
    seen: set[str] = set()
    for i, step in enumerate(node.get("steps", [])):
        name = step.get("name", "")
        if name and name in seen:
            raise Invalid(
                f'Node "{node_name}" of InferenceGraph "{graph}" contains more than one step '
                f'with name "{name}"',
                _steps_path(node_name, i),
            )
        seen.add(name)


def _where(graph: str, node_name: str, index: int, step: Object) -> str:
    name = step.get("name", "")
    return f'Step {index} ("{name}") in node "{node_name}" of InferenceGraph "{graph}"'


def _check_target(graph: str, node_name: str, index: int, step: Object, nodes: set[str]) -> None:
    path = _steps_path(node_name, index)
    where = _where(graph, node_name, index, step)
    targets = [key for key in _TARGETS if step.get(key)]
    if not targets:
        raise Invalid(f"{where} does not specify an inference target", path)
    if len(targets) > 1:
        raise Invalid(f"{where} specifies more than one of {', '.join(_TARGETS)}", path)
    node = step.get("nodeName")
    if node and node not in nodes:
        text = f'{where} names the node "{node}", which the graph does not have'
        raise Invalid(text, (*path, "nodeName"), f"known: {', '.join(sorted(nodes))}")


def _check_url(graph: str, node_name: str, index: int, step: Object, own_paths: bool) -> None:
    url = step.get("serviceUrl")
    if not url or urlsplit(url).scheme in ("http", "https") or (own_paths and is_own_path(url)):
        return
    text = f'{_where(graph, node_name, index, step)} has the serviceUrl "{url}", which is no http '
    text += "or https URL"
    accepted = "write http://..."
    if own_paths:
        text, accepted = f"{text} and no path of a model or graph here", f"{accepted}, or {PATHS}"
    raise Invalid(text, (*_steps_path(node_name, index), "serviceUrl"), accepted)


def _check_weights(graph: str, node_name: str, node: Object) -> None:
    if node["routerType"] != "Splitter":
        return
    total = 0
    for i, step in enumerate(node.get("steps", [])):
        where = f"InferenceGraph[{graph}] Node[{node_name}]"
        if "weight" not in step:
            name = step.get("name") or step.get("serviceName", "")
            raise Invalid(f"{where} Route[{name}] missing the 'Weight'", _steps_path(node_name, i))
        if step["weight"] < 0:
            text = f"{where} has the negative weight {step['weight']}"
            raise Invalid(text, (*_steps_path(node_name, i), "weight"))
        total += step["weight"]
    if total != 100:
        raise Invalid(
            f"InferenceGraph[{graph}] Node[{node_name}] splitter node: the sum of traffic weights "
            "for all routing targets should be 100",
            _steps_path(node_name),
            f"they add up to {total}",
        )


def _check_cycles(graph: str, nodes: Object) -> None:
    done: set[str] = set()

    def targets(name: str) -> Iterator[str]:
        return (s["nodeName"] for s in nodes[name].get("steps", []) if s.get("nodeName"))

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            loop = " -> ".join((*trail[trail.index(name) :], name))
            text = f'InferenceGraph "{graph}" never ends: {loop}'
            raise Invalid(text, ("spec", "nodes", trail[-1], "steps"))
        if name in done:
            return
        for target in targets(name):
            visit(target, (*trail, name))
        done.add(name)

    for name in nodes:
        visit(name, ())


def check_trained(model: Resource, old: Object | None) -> None:
    """The rules for TrainedModel: where it may come from, and that its memory stays."""
    name, spec = model.name, model.spec["model"]
    uri, memory = spec["storageUri"], spec["memory"]
    if old is not None and old["spec"]["model"]["memory"] != memory:
        before = old["spec"]["model"]["memory"]
        raise Invalid(
            f'the Trained Model "{name}" memory field is immutable. The memory was "{before}" but '
            f'it is updated to "{memory}"',
            ("spec", "model", "memory"),
        )
    if not uri.startswith(_TRAINED_SCHEMES):
        raise Invalid(
            f'the Trained Model "{name}" storageUri field is invalid. The storage uri must start '
            f"with one of the prefixes: {', '.join(_TRAINED_SCHEMES)}. (the storage uri given is "
            f'"{uri}")',
            ("spec", "model", "storageUri"),
        )


def check_storage_container(container: Resource) -> None:
    """Refuse a regular expression that does not compile; in KServe one breaks all URIs."""
    for i, known in enumerate(container.spec["supportedUriFormats"]):
        try:
            re.compile(known.get("regex", ""))
        except re.error as error:
            text = f"regex {known['regex']!r} does not compile: {error}"
            raise Invalid(text, ("spec", "supportedUriFormats", i, "regex")) from None
