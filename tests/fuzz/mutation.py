# SPDX-License-Identifier: Apache-2.0
"""Texts that are nearly right: seeds, cut, doubled, crossed and spoiled.

Chosen over a coverage-guided fuzzer because it runs wherever the tests run. What guides it
instead is the answer: an input that is answered as none before it becomes a seed itself
(`Hunt.keep`). `NERITE_FUZZ_SECONDS` says how long each target is hunted for, and
`NERITE_FUZZ_SEED` repeats a hunt; `make fuzz` sets both.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterator, Sequence

SECONDS = float(os.environ.get("NERITE_FUZZ_SECONDS", "0.5"))
SEED = int(os.environ.get("NERITE_FUZZ_SEED", "20261126"))
LONGEST = 20_000
_WORD = re.compile(r"\w+|\W")
#: What has broken parsers before: limits, depth, odd characters, promises that are not kept.
SPOILERS = (
    "", "0", "-1", "-0", "1e999", "NaN", "9223372036854775808", "18446744073709551616", "9" * 5000,
    "0x" + "f" * 4000, "1:2" + ":3" * 300, ".inf", "1_000", "[", "]", "{", "}", "<", ">", '"', "'",
    "[" * 500, "{" * 500, "a{" * 500, '{"a":' * 500, "\\", '"\\ud800"', '"\\U00110000"',
    '"\\xff"', "\x00", "\u2028", "\x85", "\ufeff", "é", "#", "*a", "&a [*a]", "!!int ''",
    "!!bool x", "!!timestamp x", "!!binary '#'", "<<: *a", "? [", "---", "%YAML 9", "\t", "\r\n",
    "null", "~", "true", ",", ":", ";", "=", "=,", ",=", "\n" * 50, " " * 300,
)  # fmt: skip


class Hunt:
    """One bounded hunt for inputs that a parser cannot take."""

    def __init__(self, seeds: Sequence[str], name: str) -> None:
        self.random = random.Random(f"{SEED} {name}")
        self.pool = [seed for seed in seeds if len(seed) <= LONGEST]
        self.known: set[str] = set()

    def inputs(self) -> Iterator[str]:
        """Every seed as it is, then changed ones until the time is up."""
        yield from list(self.pool)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            text = self.random.choice(self.pool)
            for _ in range(self.random.choice((1, 1, 1, 2, 3, 6))):
                text = self._changed(text)
            yield text[:LONGEST]

    def keep(self, text: str, answer: str) -> None:
        """Makes a seed of an input whose answer, its own names and numbers aside, is new."""
        outline = re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "_", answer)[:160]
        if outline not in self.known and len(self.known) < 5000:
            self.known.add(outline)
            self.pool.append(text)

    def _changed(self, text: str) -> str:
        words = _WORD.findall(text)
        if not words:
            return self.random.choice(SPOILERS)
        at = self.random.randrange(len(words))
        end = min(len(words), at + self.random.choice((1, 1, 2, 5, 20)))
        piece = words[at:end]
        change = self.random.randrange(7)
        if change == 0:
            piece = []
        elif change == 1:
            piece = [self.random.choice(SPOILERS)]
        elif change == 2:
            piece = [*piece, self.random.choice(SPOILERS)]
        elif change == 3:
            piece *= self.random.choice((2, 3, 40))
        elif change == 4:
            piece = [self.random.choice(words)]
        elif change == 5:
            other = _WORD.findall(self.random.choice(self.pool))
            start = self.random.randrange(len(other)) if other else 0
            piece = other[start : start + 12]
        else:
            return "".join(words[:at])
        return "".join([*words[:at], *piece, *words[end:]])
