# SPDX-License-Identifier: Apache-2.0
"""Calls a function with room for all that it calls.

CPython keeps the frames of a thread in chunks of 16 KiB and gives a chunk back the moment that its
last frame ends. Imports go deep: where a loop's calls begin at the end of a chunk, each takes one
from the system and gives it back, five thousand times in the import of scikit-learn. A chunk is
as large as the frame needs that it was made for, so one large frame first makes the room.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

#: Slots of the frame, 8 bytes each; twice as much is taken, and half of it is what is left.
_SLOTS = 16_000


def roomy(work: Callable[[], T]) -> T:
    """What `work` gives; more than it needs is only reserved, never touched."""
    return work()


with suppress(AttributeError, TypeError, ValueError):  # another Python: it works without
    roomy.__code__ = roomy.__code__.replace(co_stacksize=_SLOTS)
