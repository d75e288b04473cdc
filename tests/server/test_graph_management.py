"""Graphs that come and go: who may put one, what is told of them, and nobody is cut off."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.keyed import INFER, Keyed, asked, bearer, keyed_server
from tests.kserve.stubs import stubs
from tests.server.graphs import (
    ask,
    exchange,
    infer,
    node,
    predict,
    put,
    rows,
    sequence,
    step,
    write_python,
)

from nerite.errors import InvalidArgument
from nerite.server.server import Server
from nerite.testing import serve


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("models")
    write_python(root, "plus", "x + 1")
    write_python(root, "double", "x * 2")
    with serve(root) as running:
        yield running


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    with keyed_server(tmp_path_factory.mktemp("keyed")) as made:
        yield made


PLUS = sequence(step(predict("plus")))


def test_a_graph_is_put_told_of_asked_and_deleted(server: Server) -> None:
    text = json.dumps(PLUS).encode()
    digest = hashlib.sha256(text).hexdigest()
    told = {"namespace": "team", "name": "g", "digest": digest}
    for expected in (201, 200):
        status, _, body = exchange(server, "PUT", "/graphs/team/g", text)
        assert (status, json.loads(body)) == (expected, told)
    assert put(server, "g", PLUS)[1]["namespace"] == "default"
    listed = json.loads(exchange(server, "GET", "/graphs")[2])["graphs"]
    assert [(one["namespace"], one["name"]) for one in listed] == [("default", "g"), ("team", "g")]
    assert told in listed
    for path in ("team/g", "g", "default/g", "team/g/", "team/g/v1/models/x:predict?a=b"):
        assert ask(server, path, rows(1)) == (200, {"predictions": [[2.0]]})
    assert exchange(server, "GET", "/graphs/team/g/readyz")[0] == 200
    for path, name in (("/graphs/team/g", "team/g"), ("/graphs/g", "default/g")):
        assert exchange(server, "DELETE", path)[0] == 200
        unknown = f"graph '{name}' is not known; GET /graphs tells which there are"
        for method, where in (("DELETE", path), ("POST", path), ("GET", f"/graphs/{name}/readyz")):
            status, _, body = exchange(server, method, where)
            assert (status, json.loads(body)) == (404, {"error": unknown})
    assert json.loads(exchange(server, "GET", "/graphs")[2]) == {"graphs": []}


def test_a_path_below_a_graph_has_its_namespace(server: Server) -> None:
    put(server, "short", PLUS)
    assert ask(server, "short/v1/models", rows(1)) == (
        404,
        {
            "error": "graph 'short/v1' is not known; paths below graph 'default/short' begin with "
            "/graphs/default/short/"
        },
    )
    assert server.engine.remove_graph("default", "short")


def test_only_its_own_path_changes_a_graph(server: Server) -> None:
    """A gateway puts a path behind the graph's own, whatever a client sends."""
    put(server, "team/kept", PLUS)
    for method in ("PUT", "DELETE", "PATCH"):
        body = json.dumps(rows(1)).encode()
        status, _, answer = exchange(server, method, "/graphs/team/kept/", body)
        assert (status, json.loads(answer)) == (200, {"predictions": [[2.0]]})
    assert exchange(server, "GET", "/graphs/team/kept")[0] == 405
    assert ("team", "kept") in [graph[:2] for graph in server.engine.graphs()]
    assert server.engine.remove_graph("team", "kept")
    assert not server.engine.remove_graph("team", "kept")


@pytest.mark.parametrize(
    ("graph", "named"),
    [
        ("{", "its definition is not JSON: EOF"),
        ("[]", "the graph is not usable: it is a list, expected an object"),
        ("{}", "missing field `nodes`"),
        ('{"nodes": {}}', "the graph has no node 'root'"),
        ('{"nodes": {"root": {}}}', "node 'root' of the graph is not usable: missing field"),
        (
            '{"nodes": {"root": {"routerType": "Switch", "steps": [{}, 7]}}}',
            "step 1 of node 'root'",
        ),
        (
            '{"nodes": {"root": {"routerType": "Splitter", "steps": [{"weight": -1}]}}}',
            "step 0 of node 'root' of the graph is not usable: invalid value: integer `-1`",
        ),
        (
            '{"nodes": {"root": {"routerType": "Switch", "steps": [{"nodeName": "no"}]}}}',
            "the graph has no node 'no'",
        ),
        ('{"nodes": {"root": {"routerType": "Switch"}}, "nods": 1}', "unknown field `nods`"),
        (
            '{"nodes": {"root": {"routerType": "Switch"}}, "timeoutSecs": -1}',
            "the graph's timeoutSecs is -1, expected seconds > 0",
        ),
    ],
)
def test_what_is_no_graph_is_refused_by_name(server: Server, graph: str, named: str) -> None:
    before = server.engine.graphs()
    status, _, body = exchange(server, "PUT", "/graphs/team/bad", graph.encode())
    error = json.loads(body)["error"]
    assert status == 400
    assert error.startswith("graph 'team/bad': ")
    assert named in error
    with pytest.raises(InvalidArgument, match="graph 'team/bad'"):
        server.engine.put_graph("team", "bad", graph)
    assert server.engine.graphs() == before


def test_names_that_are_no_part_of_a_path_are_refused(server: Server) -> None:
    for namespace, name in (("", "g"), ("n", "a/b"), ("n", "g?")):
        with pytest.raises(InvalidArgument, match="expected one part of a path"):
            server.engine.put_graph(namespace, name, json.dumps(PLUS))


def test_management_is_for_whoever_is_near(server: Server) -> None:
    put(server, "near", PLUS)
    for method in ("PUT", "DELETE"):
        body = json.dumps(PLUS).encode()
        status, _, told = exchange(server, method, "/graphs/near", body, X_Forwarded_For="10.0.0.1")
        assert status == 403
        assert f"{method} /graphs/near manages the server" in json.loads(told)["error"]
    assert ask(server, "near", rows(1), X_Forwarded_For="10.0.0.1")[0] == 200
    server.engine.remove_graph("default", "near")


def test_a_graph_is_for_whoever_may_ask_all_its_models(keyed: Keyed) -> None:
    url, keys = keyed.server.http_url, {name: bearer(key) for name, key in keyed.keys.items()}
    deep = {
        "nodes": {
            "root": node("Sequence", step(infer("own-a")), {"nodeName": "more"}),
            "more": node("Sequence", step(infer("other"), name="last")),
        }
    }
    both = sequence(step(infer("own-a")), step(infer("own-b")))
    nested = sequence(step("/graphs/default/deep"), step("/graphs/nested"))
    for name, graph in (("own", both), ("deep", deep), ("nested", nested)):
        path = f"/graphs/{name}"
        assert asked(url, "PUT", path, None, graph)[0] == 401
        for key in ("infer", "metrics", "own"):
            assert asked(url, "PUT", path, keys[key], graph)[0] == 403, key
        assert asked(url, "PUT", path, keys["manage"], graph)[0] == 201
    assert asked(url, "POST", "/graphs/own", None, INFER)[0] == 401
    assert asked(url, "POST", "/graphs/own", keys["manage"], INFER)[0] == 403
    assert asked(url, "POST", "/graphs/own", keys["own"], INFER)[0] == 200
    assert asked(url, "POST", "/graphs/deep", keys["infer"], INFER)[0] == 200
    for name in ("deep", "nested"):
        status, told = asked(url, "POST", f"/graphs/{name}", keys["own"], INFER)
        text = "API key 'own' is not for model 'other', which step 'last' of node 'more' asks"
        assert (status, json.loads(told)["error"]) == (403, text)
    shown = {
        key: [
            one["name"] for one in json.loads(asked(url, "GET", "/graphs", keys[key])[1])["graphs"]
        ]
        for key in ("infer", "own", "metrics")
    }
    everything = ["deep", "nested", "own"]
    assert shown == {"infer": everything, "own": ["own"], "metrics": everything}
    assert asked(url, "GET", "/graphs")[0] == 401
    assert asked(url, "GET", "/graphs/default/own/readyz")[0] == 200
    assert asked(url, "DELETE", "/graphs/own", keys["own"])[0] == 403


def test_what_opens_the_server_is_told_to_nobody(keyed: Keyed) -> None:
    with stubs({"*": {"echo": True}}) as others:
        graph = sequence(step(f"{others.url}/x"), propagateHeaders=[".*"])
        url, key = keyed.server.http_url, keyed.keys["infer"]
        assert asked(url, "PUT", "/graphs/out", bearer(keyed.keys["manage"]), graph)[0] == 201
        headers = {**bearer(key), "X-Told": "yes", "Connection": "keep-alive"}
        assert asked(url, "POST", "/graphs/out", headers, {"a": 1}) == (200, '{"a": 1}')
        assert others.calls[0].told() == {"content-type": "application/json", "x-told": "yes"}


def test_a_request_is_one_line_of_the_access_log(tmp_path: Path) -> None:
    write_python(tmp_path / "models", "plus", "x + 1")
    log = tmp_path / "access.log"
    with serve(tmp_path / "models", access_log=str(log), log_format="json") as server:
        put(server, "g", sequence(step(predict("plus")), step(predict("plus"))))
        assert ask(server, "default/g/x", rows(1), X_Request_Id="r9")[0] == 200
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("PUT", "/graphs/g", 201),
        ("POST", "/graphs/default/g/x", 200),
    ]
    assert lines[1]["request_id"] == "r9"


def test_graphs_are_replaced_under_load_and_no_request_fails(server: Server) -> None:
    chain = [
        step(predict(name), data="$response", mapPredictionsToInstances=True)
        for name in ("plus", "double")
    ]
    graphs: list[Any] = [sequence(*chain), sequence(*reversed(chain))]
    put(server, "swapped", graphs[0])
    answers: list[tuple[int, Any]] = []
    begun = threading.Barrier(4)

    def load() -> None:
        begun.wait(10)
        for _ in range(150):
            answers.append(ask(server, "swapped", rows(1)))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait(10)
    swaps = 0
    while any(thread.is_alive() for thread in threads):
        assert put(server, "swapped", graphs[(swaps + 1) % 2])[0] == 200
        swaps += 1
    for thread in threads:
        thread.join()
    assert len(answers) == 450
    assert swaps > 10
    # (1 + 1) * 2 or 1 * 2 + 1, and never a step of one behind a step of the other.
    values = [told["predictions"][0][0] for status, told in answers if status == 200]
    assert len(values) == 450
    assert set(values) == {4.0, 3.0}


def test_a_request_under_way_keeps_its_graph(tmp_path: Path) -> None:
    """It goes on although the graph is deleted while its first step is at work."""
    gate = tmp_path / "gate"
    gate.mkdir()
    root = tmp_path / "models"
    wait = f"wait({str(gate)!r}, x)"
    write_python(root, "held", wait)
    write_python(root, "plus", "x + 1")
    code = (root / "held/1/model.py").read_text()
    waiting = """
import pathlib, time

def wait(gate, x):
    (pathlib.Path(gate) / "asked").touch()
    while not (pathlib.Path(gate) / "open").exists():
        time.sleep(0.005)
    return x
"""
    (root / "held/1/model.py").write_text(waiting + code)
    with serve(root) as server:
        then = step(predict("plus"), data="$response", mapPredictionsToInstances=True)
        put(server, "g", sequence(step(predict("held")), then))
        got: list[Any] = []
        thread = threading.Thread(target=lambda: got.append(ask(server, "g", rows(1))))
        thread.start()
        while not (gate / "asked").exists():
            assert thread.is_alive()
        assert exchange(server, "DELETE", "/graphs/g")[0] == 200
        assert exchange(server, "POST", "/graphs/g")[0] == 404
        (gate / "open").touch()
        thread.join(20)
    assert got == [(200, {"predictions": [[2.0]]})]
