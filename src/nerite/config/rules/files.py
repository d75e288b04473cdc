# SPDX-License-Identifier: Apache-2.0
"""Rules about the files that a configuration names: each lies below the folder it belongs in.

A configuration can come with a request, so that a name which leads elsewhere would let whoever
reaches the port have files of the machine read. Links that an operator put there are followed
only where they stay inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nerite.config.rules import Context, Problems, problem
from nerite.config.schema import Message


def leads_out(root: Path | None, name: str) -> bool:
    """Whether `name` is no path below `root`; without a root only its words are looked at."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        return True
    return root is not None and not (root / name).resolve().is_relative_to(root.resolve())


def files_stay_inside(config: Message, context: Context) -> Problems:
    """No name of a file leads out of the folder that such files lie in."""
    for key, name, folder in _named(config):
        root = context.folder / folder if context.folder is not None and folder else None
        if leads_out(root, name):
            what = folder or "version"
            text = f"{key} '{name}' of model '{config.name}' leads out of its {what} folder"
            yield problem(text, key, name, f"a file in the {what} folder")


def _named(config: Message) -> Iterator[tuple[str, str, str]]:
    """Key, name and folder of every file; of version folders there may be many."""
    if config.default_model_filename:
        yield "default_model_filename", config.default_model_filename, ""
    for capability in sorted(config.cc_model_filenames):
        yield f"cc_model_filenames[{capability}]", config.cc_model_filenames[capability], ""
    for index, sample in enumerate(config.model_warmup):
        for name in sorted(sample.inputs):
            if sample.inputs[name].input_data_file:
                key = f"model_warmup[{index}].inputs[{name}].input_data_file"
                yield key, sample.inputs[name].input_data_file, "warmup"
    for index, state in enumerate(config.sequence_batching.state):
        for place, initial in enumerate(state.initial_state):
            if initial.data_file:
                key = f"sequence_batching.state[{index}].initial_state[{place}].data_file"
                yield key, initial.data_file, "initial_state"
