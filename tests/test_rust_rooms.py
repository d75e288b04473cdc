"""Modules of the Rust crates stand above what they use: circles are known, and none is added."""

from __future__ import annotations

import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

RUST = Path(__file__).parents[1] / "rust"
#: A request, its queue and the instance that takes it refer to each other, and so do the steps of
#: an ensemble.
HEART = {
    *("cache", "gather", "in_parts", "infer", "instance", "lane", "line", "responses", "table"),
    *("ensemble", "ensemble::counting", "ensemble::run", "ensemble::step"),
    *("timekeeper", "version"),
}
CONDITIONS = {f"gateway::condition::{part}" for part in ("modifiers", "path", "query", "walk")}
CALLS = {"batch", "call", "sender", "version"}


def modules(crate: str) -> dict[str, str]:
    """Module -> its source without comments and tests."""
    root = RUST / crate / "src"
    found = {}
    for file in root.rglob("*.rs"):
        parts = file.relative_to(root).with_suffix("").parts
        if parts == ("lib",) or "tests" in parts:
            continue
        text = re.sub(r"//.*", "", file.read_text())
        text = re.sub(r"#\[cfg\(test\)\]\s*mod \w+ \{.*", "", text, flags=re.DOTALL)
        found["::".join(parts[:-1] if parts[-1] == "mod" else parts)] = text
    return found


def spread(tree: str) -> Iterator[str]:
    """`a::{b, c::d}` -> `a::b`, `a::c::d`."""
    before, brace, rest = tree.strip().partition("{")
    if not brace:
        yield before.partition(" as ")[0].strip()
        return
    depth, part = 0, ""
    for sign in rest.rpartition("}")[0] + ",":
        depth += (sign == "{") - (sign == "}")
        if sign == "," and depth == 0:
            yield from (before + each for each in spread(part) if part.strip())
            part = ""
        else:
            part += sign


def uses(module: str, text: str, known: dict[str, str]) -> set[str]:
    """The modules of the crate that a module names."""
    named = [path for tree in re.findall(r"\buse\s+([^;]+);", text) for path in spread(tree)]
    named += re.findall(r"\b(?:crate|super)(?:::\w+)+", text)
    found = set()
    for path in named:
        first, *rest = path.split("::")
        if first == "crate":
            whole = rest
        elif first in ("super", "self"):
            up = path.split("::").count("super")
            own = module.split("::")
            whole = own[: len(own) - up] + path.split("::")[max(up, 1) :]
        else:
            continue
        # The longest part of the path that is a module.
        names = ["::".join(whole[:length]) for length in range(len(whole), 0, -1)]
        target = next((name for name in names if name in known), None)
        if target and target != module:
            found.add(target)
    return found


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Modules that reach themselves, together with those that they share that with."""
    reach = {}
    for start in graph:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting += new
        reach[start] = seen
    rings = {
        frozenset(other for other in reach[one] if one in reach[other])
        for one in graph
        if one in reach[one]
    }
    return [set(ring) for ring in rings]


@pytest.mark.parametrize(
    ("crate", "known"),
    [("engine", [HEART]), ("logic", [CONDITIONS]), ("binding", [CALLS])],
)
def test_circles_are_those_that_are_known(crate: str, known: list[set[str]]) -> None:
    sources = modules(crate)
    graph = {module: uses(module, text, sources) for module, text in sources.items()}
    assert sorted(map(sorted, circles(graph))) == sorted(map(sorted, known))
    inside = set().union(*known)
    rest = {module: used - inside for module, used in graph.items() if module not in inside}
    assert list(TopologicalSorter(rest).static_order())
    assert len(graph) > 10
