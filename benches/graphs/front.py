# SPDX-License-Identifier: Apache-2.0
"""A gateway alone in a process, with the graph: `python -m benches.graphs.front HTTP GRAPH`.

It prints its port. Its steps are asked over connections; the service `below` is the graph that the
server behind it runs.
"""

from __future__ import annotations

import json
import sys

from nerite.kserve.gateway import (
    Component,
    Gateway,
    Graph,
    Replica,
    Revision,
    RouteTable,
    Service,
)


def main(http: str, nodes: str) -> None:
    """Serve until standard input ends."""
    replicas = [Revision([Replica(http)])]
    graph = Graph(json.loads(nodes))
    services = [
        Service("chain", components=[Component("graph", graph=graph)]),
        Service("identity", components=[Component("predictor", replicas)]),
        Service("below", components=[Component("graph", replicas, at="/graphs/default/chain")]),
    ]
    with Gateway(RouteTable(services)) as gateway:
        print(gateway.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
