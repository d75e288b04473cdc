"""Graphs against what KServe's own router did with them, over real sockets."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kserve.stubs import Call, Stubs, refusing, stubs

from nerite.kserve.gateway import Gateway
from nerite.kserve.graphs import graph_of, serve_graph
from nerite.server.server import Server
from nerite.testing import serve

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
FOLDER = Path(__file__).parent / "vectors/graph"


def read(theme: str) -> dict[str, Any]:
    return yaml.load((FOLDER / f"{theme}.yaml").read_text(), Loader=Loader)


THEMES = ("sequence", "switch", "ensemble", "splitter", "http")
VECTORS = {v["id"]: v for theme in THEMES for v in read(theme)["vectors"]}
CONDITIONS = read("conditions")
NO_MATCH = {
    "error": "Failed to process request",
    "cause": "None of the routes matched with the switch condition",
}


def numbers_stay(status: int, headers: dict[str, str], body: bytes, calls: list[Call]) -> None:
    written = b'{"instances":[9007199254740993, 1e3, 1.0, 1e21, 0.000001, 1e-7, -0.0]}'
    assert (status, body) == (200, written)


def redirect_is_an_answer(
    status: int, headers: dict[str, str], body: bytes, calls: list[Call]
) -> None:
    assert (status, [call.path for call in calls]) == (302, ["/a"])


def is_not_found(status: int, headers: dict[str, str], body: bytes, calls: list[Call]) -> None:
    assert (status, json.loads(body), calls) == (404, NO_MATCH, [])


def no_result_is_lost(status: int, headers: dict[str, str], body: bytes, calls: list[Call]) -> None:
    assert status == 200
    assert json.loads(body) == {"1": {"predictions": [1]}, "2": {"predictions": [2]}}


def says_what_is_missing(
    status: int, headers: dict[str, str], body: bytes, calls: list[Call]
) -> None:
    assert (status, json.loads(body)["cause"]) == (500, 'node "root" has no step to take')


def nothing_is_propagated(
    status: int, headers: dict[str, str], body: bytes, calls: list[Call]
) -> None:
    assert status == 200
    assert "auth" not in calls[0].headers


#: Where KServe is evidently wrong (`defect` in the vector): what must hold here.
BETTER: dict[str, Callable[[int, dict[str, str], bytes, list[Call]], None]] = {
    "sequence/map-numbers-2": numbers_stay,
    "sequence/redirect-302": redirect_is_an_answer,
    "sequence/no-steps": says_what_is_missing,
    "switch/nested-no-match": is_not_found,
    "ensemble/nested-switch": is_not_found,
    "ensemble/index-clash": no_result_is_lost,
    "http/headers-empty": nothing_is_propagated,
}


def test_every_defect_has_its_better_answer() -> None:
    assert set(BETTER) == {name for name, vector in VECTORS.items() if "defect" in vector}


@dataclass(frozen=True)
class Place:
    """Where a graph answers."""

    port: int
    below: str = ""


def ask(place: Gateway | Place, request: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=10)
    try:
        body = request["body"].encode()
        path = (place.below if isinstance(place, Place) else "") + request["path"]
        connection.request(request["method"], path, body, request["headers"])
        answer = connection.getresponse()
        told = {key.lower(): value for key, value in answer.getheaders()}
        return answer.status, told, answer.read()
    finally:
        connection.close()


def same_body(got: bytes, expected: str) -> bool:
    try:
        return bool(json.loads(got) == json.loads(expected))
    except ValueError:
        return got == expected.encode()


def same_failure(got: bytes, expected: str) -> bool:
    """Both fail alike; the words for what went wrong outside of the router are Go's."""
    told, recorded = json.loads(got), json.loads(expected)
    ours = recorded["cause"].startswith(("None of", "invalid response", "invalid route type"))
    alike = told["cause"] == recorded["cause"] if ours else len(told["cause"]) > 10
    return told.keys() == recorded.keys() and told["error"] == recorded["error"] and alike


def check(vector: dict[str, Any], exchange: dict[str, Any], place: Place, made: Stubs) -> None:
    made.calls.clear()
    status, headers, body = ask(place, exchange["request"])
    if vector["id"] in BETTER:
        BETTER[vector["id"]](status, headers, body, made.calls)
        return
    expected = exchange["response"]
    assert status == expected["status"], body
    for name, value in expected["headers"].items():
        assert headers.get(name) == value
    if "content-type" not in expected["headers"]:
        assert "content-type" not in headers
    is_failure = '"error":"Failed to process request"' in expected["body"]
    assert (same_failure if is_failure else same_body)(body, expected["body"]), body
    calls = [(c.stub, c.method, c.path, c.told(), c.body) for c in made.calls]
    recorded = [
        (c["stub"], c["method"], c["path"], c["headers"], c["body"]) for c in exchange["calls"]
    ]
    if vector.get("calls_in_any_order"):
        calls.sort(key=lambda call: call[0])
        recorded.sort(key=lambda call: call[0])
    assert [call[:4] for call in calls] == [call[:4] for call in recorded]
    assert all(same_body(a[4], b[4]) for a, b in zip(calls, recorded, strict=True)), calls


def check_split(exchange: dict[str, Any], place: Place, made: Stubs) -> None:
    for _ in range(exchange["repeat"]):
        assert ask(place, exchange["request"])[0] == 200
    counts = Counter(call.stub for call in made.calls)
    assert counts == {"a": 30, "b": 90, "c": 180}  # exactly the weights, where KServe draws lots


@contextmanager
def in_gateway(spec: dict[str, Any], patterns: list[str]) -> Iterator[Place]:
    with serve_graph(spec, propagate_headers=patterns) as gateway:
        yield Place(gateway.port)


@contextmanager
def in_server(spec: dict[str, Any], patterns: list[str]) -> Iterator[Place]:
    """The same graph in a Nerite server, whose models it does not ask."""
    server = SERVERS[0]
    server.engine.put_graph(
        "vectors", "graph", graph_of(spec, propagate_headers=patterns).to_json()
    )
    yield Place(server.ports["http"][1], "/graphs/vectors/graph")


SERVERS: list[Server] = []


@pytest.fixture(scope="module", autouse=True)
def nerite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with serve(tmp_path_factory.mktemp("models")) as server:
        SERVERS.append(server)
        yield
        SERVERS.clear()


Runner = Callable[[dict[str, Any], list[str]], AbstractContextManager[Place]]


@pytest.mark.parametrize("runner", [in_gateway, in_server])
@pytest.mark.parametrize("name", VECTORS)
def test_the_router_does_what_kserves_does(name: str, runner: Runner) -> None:
    vector = VECTORS[name]
    with stubs(vector["stubs"]) as made, refusing() as closed:
        text = json.dumps(vector["graph"])
        text = text.replace("http://STUBS", made.url).replace("REFUSED", closed)
        patterns = vector.get("env", {}).get("PROPAGATE_HEADERS", "").split(",")
        with runner(json.loads(text), patterns) as place:
            for exchange in vector["exchanges"]:
                if "repeat" in exchange:
                    check_split(exchange, place, made)
                else:
                    check(vector, exchange, place, made)


def test_conditions_hold_where_they_did_in_kserve() -> None:
    nodes: dict[str, Any] = {}
    vectors = CONDITIONS["vectors"]
    with stubs({"a": {"body": "{}"}}) as made:
        # One graph: each condition is a node of its own, reached by its number.
        steps = []
        for number, vector in enumerate(vectors):
            step = {"serviceUrl": f"{made.url}/a", "condition": vector["condition"]}
            nodes[f"n{number}"] = {"routerType": "Switch", "steps": [step]}
            steps.append(number)
        wrong = []
        for number in steps:
            root = {"routerType": "Switch", "steps": nodes[f"n{number}"]["steps"]}
            with serve_graph({"nodes": {"root": root}}) as gateway:
                for body, expected in zip(
                    CONDITIONS["bodies"], vectors[number]["matches"], strict=True
                ):
                    request = {"method": "POST", "path": "/", "headers": {}, "body": body}
                    status = ask(gateway, request)[0]
                    if status != (200 if expected else 404):
                        wrong.append((vectors[number]["id"], body, status))
        assert not wrong
