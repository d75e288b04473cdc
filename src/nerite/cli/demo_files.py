# SPDX-License-Identifier: Apache-2.0
"""The demo's first story: what type has each of 64 real files?

Each file is sent by a thread of its own, all at the same moment, first to the Python model that
makes features of its bytes, then to Magika's network. What the server batches, it batches itself.
"""

from __future__ import annotations

import sysconfig
import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from nerite.cli.client import Client, Tensor
from nerite.tensors import object_array

FILES = 64
LARGEST = 512 * 1024
SKIPPED = {".git", ".venv", ".tools", "target", "build", "dist", "site-packages", "__pycache__"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Magika says about one file."""

    path: Path
    label: str
    score: float


def real_files(checkout: Path, wanted: int = FILES) -> list[Path]:
    """Files of as many kinds as there are: some of this checkout, Python's library and NumPy."""
    library = Path(sysconfig.get_path("stdlib"))
    numpy = Path(sysconfig.get_path("platlib"), "numpy")
    by_kind: defaultdict[str, list[Path]] = defaultdict(list)
    for path in (*_walk(checkout), *_walk(library / "test"), *_walk(library), *_walk(numpy)):
        by_kind[path.suffix.lower() or path.name].append(path)
    turns = zip_longest(*(by_kind[kind][:4] for kind in sorted(by_kind)))
    return [path for turn in turns for path in turn if path is not None][:wanted]


def _walk(root: Path, depth: int = 3) -> Iterable[Path]:
    """Files of a reasonable size below `root`, in a stable order; none if it is not there."""
    entries = sorted(root.iterdir()) if root.is_dir() else []
    for entry in entries:
        if entry.is_symlink() or entry.name in SKIPPED:
            continue
        if entry.is_file() and 256 <= entry.stat().st_size <= LARGEST:
            yield entry
        elif entry.is_dir() and depth:
            yield from _walk(entry, depth - 1)


def ask(url: str, files: Sequence[Path], labels: Sequence[str]) -> list[Verdict]:
    """The verdict on each file, all asked at once."""
    start = threading.Barrier(len(files))

    def one(path: Path) -> Verdict:
        content = object_array([path.read_bytes()]).reshape(1, 1)
        with Client(url) as client:
            start.wait()
            return verdict(client, path, Tensor("BYTES", content), labels)

    with ThreadPoolExecutor(len(files)) as threads:
        return list(threads.map(one, files))


def verdict(client: Client, path: Path, content: Tensor, labels: Sequence[str]) -> Verdict:
    """Features from the Python model, then the network, then its most likely label."""
    features = client.infer("magika_features", {"content": content}).outputs["bytes"]
    scores = client.infer("magika", {"bytes": features}).outputs["target_label"].array[0]
    best = int(scores.argmax())
    return Verdict(path, labels[best], float(scores[best]))
