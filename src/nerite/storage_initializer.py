# SPDX-License-Identifier: Apache-2.0
"""`python -m nerite.storage_initializer SRC DEST [SRC DEST ...]`: KServe's init container.

The arguments, the exit codes and the shape of the log are those of KServe's own initializer; what
it does is in `nerite.downloads`. The environment is read here and passed on: this is a process of
its own, in which no server runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nerite.downloads.fetch import Terms, fetch
from nerite.downloads.progress import Progress
from nerite.downloads.sources import without_secrets
from nerite.downloads.transfer import Courier
from nerite.errors import InvalidArgument, NeriteError

USAGE = "SRC_URI DEST_PATH [SRC_URI DEST_PATH ...]"


def main(words: Sequence[str], claims: Mapping[str, Path] | None = None) -> int:
    """Fetches every pair; 0, or 1 with one line that says what went wrong."""
    if not words or len(words) % 2:
        _say(f"error: {len(words)} arguments; pairs are expected: {USAGE}")
        return 1
    progress = Progress(sys.stderr)
    terms = Terms(dict(os.environ), claims or {}, courier=Courier(progress))
    for uri, destination in zip(words[::2], words[1::2], strict=True):
        shown = without_secrets(uri) if "://" in uri else uri
        _say(f"Initializing, args: src_uri [{shown}] dest_path [{destination}]")
        try:
            fetched = fetch(uri, Path(destination), terms)
        except NeriteError as error:
            progress.close()
            _say(f"error: {error.message}")
            return 1
        except OSError as error:
            progress.close()
            _say(f"error: '{shown}' cannot be written to '{destination}': {error}")
            return 1
        progress.close()
        names = ", ".join(path.name for path in fetched)
        _say(f"Successfully copied {shown} to {destination}: {names}")
    return 0


def claims_of(words: Sequence[str]) -> dict[str, Path]:
    """`NAME=FOLDER` words as claims.

    Raises:
        InvalidArgument: A word has no `=`.
    """
    claims = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not name or not equals or not folder:
            raise InvalidArgument(f"--claim: '{word}' is not NAME=FOLDER")
        claims[name] = Path(folder)
    return claims


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
