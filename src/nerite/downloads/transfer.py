# SPDX-License-Identifier: Apache-2.0
"""Bytes into a part, from where they broke off, until there are as many as were promised.

How a source is opened at a position is its own business (`http`, `buckets`); so is what counts as
broken off: it raises `Interrupted`, which is tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nerite.downloads.progress import Progress
from nerite.downloads.staging import Part
from nerite.errors import Unavailable

#: Tries without a single byte of progress before a file is given up.
ATTEMPTS = 3


class Interrupted(Exception):
    """A transfer broke off for a reason that may pass."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A source that is ready to send."""

    start: int
    """The position of the first byte that comes."""
    size: int | None
    """How many bytes there are in all, if that is told."""
    tag: str
    """What tells this content from a later one under the same name; empty if nothing does."""
    chunks: Iterator[bytes]


#: Opens a source at a position, if its content is still the one with this tag.
Opener = Callable[[int, str], Opened]


@dataclass(frozen=True, slots=True)
class Courier:
    """How transfers are made: who is told, and how long to wait before another try."""

    progress: Progress
    attempts: int = ATTEMPTS
    pause: Callable[[float], None] = time.sleep


def transfer(part: Part, open_at: Opener, courier: Courier, what: str) -> int:
    """Fills the part; how many bytes it has.

    Raises:
        Unavailable: It broke off again and again.
    """
    failures, told = 0, False
    while True:
        before = part.size
        try:
            opened = open_at(before, part.tag)
            start = _prepared(part, opened)
            if not told:
                courier.progress.expect(opened.size or 0, what)
                courier.progress.add(start, fetched=False)
                told = True
            _append(part, opened, courier.progress)
            _check_size(part, opened)
        except Interrupted as why:
            failures = 0 if part.size > before else failures + 1
            if failures >= courier.attempts:
                raise Unavailable(f"'{what}' cannot be fetched: {why}") from why
            courier.pause(0.5 * 2**failures)
            continue
        return part.size


def _prepared(part: Part, opened: Opened) -> int:
    """Brings the part to where the source begins; that position."""
    if opened.start == 0:
        part.path.unlink(missing_ok=True)
        part.tag_path.write_text(opened.tag)
    return opened.start


def _append(part: Part, opened: Opened, progress: Progress) -> None:
    with part.path.open("ab") as file:
        for chunk in opened.chunks:
            file.write(chunk)
            progress.add(len(chunk))


def _check_size(part: Part, opened: Opened) -> None:
    if opened.size is not None and part.size < opened.size:
        raise Interrupted(f"it ended after {part.size} of {opened.size} bytes")
    if opened.size is not None and part.size > opened.size:
        found = part.size
        part.path.unlink()
        raise Interrupted(f"it has {found} bytes where {opened.size} were announced")
