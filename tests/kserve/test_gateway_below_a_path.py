"""Components whose replicas are asked below a path: graphs that a Nerite server runs."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import pytest
from tests.kserve.stubs import stubs
from tests.kserve.test_gateway import ECHO, ask, component, gateway
from tests.server.graphs import exchange, predict, put, rows, sequence, step, write_python

from nerite.errors import InvalidArgument
from nerite.kserve.gateway import Batcher, Component, Graph, Service
from nerite.testing import serve

AT = "/graphs/prod/chain"


def test_the_path_goes_before_whatever_is_asked() -> None:
    with stubs(ECHO) as made:
        below = component("graph", made, at=AT)
        joined = component("predictor", made, at="/b", batcher=Batcher(1, 10))
        outer = Graph({"root": {"routerType": "Sequence", "steps": [step("http://chain/x?a=b")]}})
        services = [
            Service("chain", components=[below]),
            Service("joined", components=[joined]),
            Service("outer", components=[Component("graph", graph=outer)]),
        ]
        with gateway(*services) as gate:
            for path, asked in (
                ("/", f"{AT}/"),
                ("/v1/models/x:predict?a=b", f"{AT}/v1/models/x:predict?a=b"),
                ("/serving/default/chain", f"{AT}/"),
                ("/serving/default/chain/readyz", f"{AT}/readyz"),
            ):
                assert ask(gate, path, "chain.default")[0] == 200
                assert made.calls[-1].path == asked
            ask(gate, "/v1/models/m:predict", "joined.default", body=b'{"instances": [1]}')
            assert made.calls[-1].path == "/b/v1/models/m:predict"
            assert ask(gate, "/", "outer.default")[0] == 200
            assert made.calls[-1].path == f"{AT}/x?a=b"
            named = [("grpc.default_authority", "chain.default")]
            with grpc.insecure_channel(f"127.0.0.1:{gate.port}", named) as channel:
                call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
                with pytest.raises(grpc.RpcError, match=f"asked over HTTP only, at {AT}") as told:
                    call(b"", timeout=10)
                assert told.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_no_client_of_a_gateway_changes_the_graph_behind_it(tmp_path: Path) -> None:
    write_python(tmp_path, "plus", "x + 1")
    with serve(tmp_path) as server:
        assert put(server, "prod/chain", sequence(step(predict("plus"))))[0] == 201
        chain = Service("chain", "prod", [component("graph", server, at=AT)])
        with gateway(chain) as gate:
            body = json.dumps(rows(1)).encode()
            answered = (200, {"predictions": [[2.0]]})
            for method in ("POST", "PUT", "DELETE"):
                for path in ("/", "/serving/prod/chain", "/x/y"):
                    status, _, told = ask(gate, path, "chain.prod", method, body)
                    assert (status, json.loads(told)) == answered, (method, path)
            assert ask(gate, "/readyz", "chain.prod", "GET", b"")[0] == 200
            assert exchange(server, "DELETE", AT)[0] == 200
            status, _, told = ask(gate, "/", "chain.prod", "POST", body)
            assert status == 404
            assert "graph 'prod/chain' is not known" in json.loads(told)["error"]


@pytest.mark.parametrize("at", ["graphs", "/graphs/", "/a?b", "/a#b", "/a b", "/ä"])
def test_what_is_no_path_to_lie_below_is_refused(at: str) -> None:
    refusal = pytest.raises(InvalidArgument, match=r"at is '.*', expected a path such as")
    with refusal, gateway(Service("x", components=[component("graph", "127.0.0.1:1", at=at)])):
        pass
