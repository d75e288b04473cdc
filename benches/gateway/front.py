# SPDX-License-Identifier: Apache-2.0
"""A gateway alone in a process: `python -m benches.gateway.front HTTP GRPC`; prints its port."""

from __future__ import annotations

import sys

from nerite.kserve.gateway import Component, Gateway, Replica, Revision, RouteTable, Service


def main(http: str, grpc: str) -> None:
    """Serve until standard input ends."""
    predictor = Component("predictor", [Revision([Replica(http, grpc)])])
    with Gateway(RouteTable([Service("identity", components=[predictor])])) as gateway:
        print(gateway.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
