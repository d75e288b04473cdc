# SPDX-License-Identifier: Apache-2.0
"""What is asked of each server: three ways to say the same request, at two concurrencies.

A case is data only. The bytes of its request are made in `payload`, the program that sends it
is chosen in `measure`. The goals are those that Nerite has set itself for one pinned core.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

# h2load keeps this many streams open on each connection, as a busy gRPC client would.
STREAMS_PER_CONNECTION = 8


class Protocol(Enum):
    """How a request travels; the value is the word used on the command line."""

    HTTP_BINARY = "http-binary"
    HTTP_JSON = "http-json"
    GRPC = "grpc"


@dataclass(frozen=True, slots=True)
class Case:
    """One protocol at one number of requests in flight."""

    protocol: Protocol
    concurrency: int

    @property
    def name(self) -> str:
        """The case as `--only` takes it, for example `grpc@64`."""
        return f"{self.protocol.value}@{self.concurrency}"


ALL_CASES = tuple(Case(protocol, concurrency) for protocol in Protocol for concurrency in (8, 64))

# Microseconds of server CPU per request, with a native backend and with a batched Python model.
GOALS_US: dict[Case, float] = {
    Case(Protocol.HTTP_BINARY, 8): 16.0,
    Case(Protocol.HTTP_BINARY, 64): 11.0,
    Case(Protocol.GRPC, 8): 17.0,
    Case(Protocol.GRPC, 64): 9.0,
}


def select(words: list[str]) -> tuple[Case, ...]:
    """The cases that any of the words names: a protocol, a concurrency (`@8`) or both."""
    chosen: list[Case] = []
    for word in words:
        matching = [case for case in ALL_CASES if _matches(case, word)]
        if not matching:
            names = ", ".join(case.name for case in ALL_CASES)
            raise ValueError(
                f"no case is called '{word}'; there are {names}, and a protocol or "
                "a concurrency such as '@8' alone names all that have it"
            )
        chosen += matching
    return tuple(case for case in ALL_CASES if case in chosen)


def _matches(case: Case, word: str) -> bool:
    protocol, _, concurrency = word.partition("@")
    return protocol in ("", case.protocol.value) and concurrency in ("", str(case.concurrency))
