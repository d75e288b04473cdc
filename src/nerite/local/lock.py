# SPDX-License-Identifier: Apache-2.0
"""One folder has one daemon."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from nerite.errors import Unavailable


def take(lock: Path) -> IO[str]:
    """Holds the lock file for as long as the process lives, even if that is killed."""
    held = lock.open("a+")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.seek(0)
        owner = held.read().strip()
        held.close()
        raise Unavailable(
            f"another daemon runs already (process {owner}, folder '{lock.parent}'); "
            "use nerite apply, or stop that one first"
        ) from None
    held.truncate(0)
    held.write(str(os.getpid()))
    held.flush()
    return held
