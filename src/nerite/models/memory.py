# SPDX-License-Identifier: Apache-2.0
"""Give memory that models no longer need back to the system.

The C library keeps what is freed, in as many arenas as eight a core, and of all but the first it
never returns the end. Models come and go on new threads, each in another arena: without a limit a
server that reloads a model keeps a quarter more after fifty times (`benches.control`).
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

#: `M_ARENA_MAX` of glibc's malloc.h.
_ARENA_MAX: Final = -8
#: The main thread's, and one for all others: sockets have an allocator of their own, and of the
#: threads that run models most hold the interpreter's lock while they allocate.
ARENAS: Final = 2


def limit_arenas() -> None:
    """Has the C library keep few arenas; for a process that is a server and nothing else."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc has it, others need it not
    if mallopt is not None:
        mallopt(_ARENA_MAX, ARENAS)


def release_memory() -> None:
    """Ends circles of objects, which frameworks make, and returns what is free."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
