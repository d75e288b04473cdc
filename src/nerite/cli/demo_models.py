# SPDX-License-Identifier: Apache-2.0
"""The repository that the demo serves: `examples/models`, with the networks of two packages.

The configurations and the Python model are ours and lie in the checkout; the networks are real ones
that ship inside the packages magika and silero-vad, which are looked up and never imported.
"""

from __future__ import annotations

import json
import shutil
from importlib import util
from pathlib import Path

from nerite.errors import NotFound, Unsupported

INSTALL = "pip install onnxruntime && pip install --no-deps magika silero-vad"


def find_examples() -> Path:
    """The folder `examples` of the checkout that is worked in, or that Nerite runs from.

    Raises:
        NotFound: There is no checkout.
    """
    for root in (Path.cwd(), Path(__file__).resolve().parents[3]):
        if (root / "examples/models/magika/config.pbtxt").is_file():
            return root / "examples"
    raise NotFound("the demo is part of the source checkout; run it there, or: make demo")


def prepare(examples: Path, repository: Path) -> Path:
    """Makes `repository` anew from the examples and the installed packages, and returns it.

    Raises:
        Unsupported: A package with a network is not installed.
    """
    magika = _package("magika") / "models/standard_v3_3"
    silero = _package("silero_vad") / "data"
    if repository.exists():
        shutil.rmtree(repository)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(examples / "models", repository, ignore=ignored)
    _place(magika / "model.onnx", repository / "magika/1/model.onnx")
    _place(silero / "silero_vad_16k_sequence.onnx", repository / "silero_vad/1/model.onnx")
    (repository / "magika/labels.txt").write_text("\n".join(magika_labels(magika)) + "\n")
    return repository


def magika_labels(model: Path) -> list[str]:
    """The content types that the network knows, in the order of its output."""
    document = json.loads((model / "config.min.json").read_text())
    return [str(label) for label in document["target_labels_space"]]


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _package(name: str) -> Path:
    found = util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise Unsupported(
            f"the demo needs the package '{name.replace('_', '-')}', which is not installed; "
            f"run: {INSTALL}"
        )
    return Path(found.submodule_search_locations[0])
