# SPDX-License-Identifier: Apache-2.0
"""What somebody who wrote a wrong word probably meant.

Used by all readers, so that `config.pbtxt` and `config.yaml` give the same advice. Nothing here
decides whether a word is wrong.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from google.protobuf.descriptor import Descriptor, EnumDescriptor

from nerite.config.schema import homes_of

#: Words of other systems, or of the wire protocol, and what this schema calls them.
SYNONYMS = {
    "TYPE_BYTES": "TYPE_STRING",
    "BYTES": "TYPE_STRING",
    "STRING": "TYPE_STRING",
    "FLOAT": "TYPE_FP32",
    "TYPE_FLOAT": "TYPE_FP32",
    "TYPE_FLOAT32": "TYPE_FP32",
    "TYPE_FLOAT16": "TYPE_FP16",
    "TYPE_FLOAT64": "TYPE_FP64",
    "TYPE_DOUBLE": "TYPE_FP64",
    "datatype": "data_type",
    "dtype": "data_type",
    "type": "data_type",
    "shape": "dims",
    "inputs": "input",
    "outputs": "output",
    "batch_size": "max_batch_size",
    "value": "string_value",
}


def nearest(word: str, choices: Iterable[str]) -> str:
    """The choice that was probably meant, or `""`."""
    known = list(choices)
    meant = SYNONYMS.get(word, "")
    if meant in known:
        return meant
    folded = {name.lower(): name for name in known}
    tail = [name for low, name in folded.items() if low.endswith(f"_{word.lower()}")]
    if len(tail) == 1:
        return tail[0]
    close = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else ""


def for_field(word: str, message: Descriptor) -> str:
    """Advice for a key that `message` does not have."""
    names = [field.name for field in message.fields]
    homes = homes_of(word)
    if homes and SYNONYMS.get(word) not in names:
        # A word that the schema knows is rather in the wrong place than misspelled.
        return (
            f"'{word}' belongs in '{homes[0]}'" if homes[0] else f"move '{word}' to the top level"
        )
    meant = nearest(word, names)
    if meant:
        return f"did you mean '{meant}'?"
    return f"one of: {', '.join(names)}" if names else f"leave '{message.name}' empty"


def for_enum(word: str, enum: EnumDescriptor) -> str:
    """Advice for a value that `enum` does not have."""
    names = [value.name for value in enum.values]
    meant = nearest(word, names)
    return f"did you mean {meant}?" if meant else f"one of: {', '.join(names)}"
