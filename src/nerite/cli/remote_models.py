# SPDX-License-Identifier: Apache-2.0
"""Models that `nerite serve` is given as a URI: brought here before the server starts.

They lie in a temporary folder for as long as the process lives. What is fetched and how is in
`nerite.downloads`; a repository that changes is not watched.
"""

from __future__ import annotations

import atexit
import sys
from pathlib import Path, PurePosixPath

from nerite.errors import InvalidArgument


def local_path(text: str) -> str:
    """The path on this machine of what a path or URI names.

    Raises:
        NeriteError: It cannot be fetched; the text names the URI.
    """
    if "://" not in text:
        return text
    from nerite.downloads.fetch import Terms, fetch
    from nerite.downloads.progress import Progress
    from nerite.downloads.sources import parse
    from nerite.downloads.transfer import Courier
    from nerite.server.environment import variables

    source = parse(text)
    if source.kind == "folder":
        return source.path
    if source.kind == "claim":
        raise InvalidArgument(
            f"'{text}': a cluster mounts a claim, nothing is downloaded; name the folder where it "
            "is mounted"
        )
    progress = Progress(sys.stderr)
    folder = _temporary() / (PurePosixPath(source.path).name or source.container)
    try:
        fetch(text, folder, Terms(variables(), courier=Courier(progress)))
    finally:
        progress.close()
    return str(folder)


def _temporary() -> Path:
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="nerite-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
