# SPDX-License-Identifier: Apache-2.0
"""How people name resources: `isvc irises`, `inferenceservice/irises`, `servingruntimes`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nerite.errors import InvalidArgument

_SHORT = {
    "isvc": "InferenceService",
    "ig": "InferenceGraph",
    "tm": "TrainedModel",
    "sa": "ServiceAccount",
    "csr": "ClusterServingRuntime",
}


@dataclass(frozen=True, slots=True)
class Named:
    """A kind, and the objects of it that are meant; none means all."""

    kind: str
    names: tuple[str, ...] = ()


def kind_of(word: str) -> str:
    """The kind that a word means.

    Raises:
        InvalidArgument: None; kubectl's words, and the kinds there are.
    """
    from nerite.local.catalog import PLURALS

    # `inferenceservices.serving.kserve.io` and `...v1beta1.serving.kserve.io` are kubectl's too.
    plain = word.lower().partition(".")[0]
    known = {kind.lower(): kind for kind in PLURALS}
    known |= {plural: kind for kind, plural in PLURALS.items()}
    found = known.get(plain) or _SHORT.get(plain)
    if found is None:
        there = ", ".join(sorted([*_SHORT, *PLURALS.values()]))
        raise InvalidArgument(
            f'the server doesn\'t have a resource type "{word}" (there is: {there})'
        )
    return found


def named(words: Sequence[str]) -> list[Named]:
    """What the words after a verb mean: `KIND [NAME...]`, or `KIND/NAME` each."""
    if any("/" in word for word in words):
        found = []
        for word in words:
            kind, slash, name = word.partition("/")
            if not (kind and slash and name):
                raise InvalidArgument(
                    "there is no need to specify a resource type as a separate argument when "
                    f"passing arguments in resource/name form: '{word}'"
                )
            found.append(Named(kind_of(kind), (name,)))
        return found
    kinds = words[0].split(",")
    if len(kinds) > 1 and len(words) > 1:
        raise InvalidArgument("name one kind, or no names: several kinds have no names in common")
    return [Named(kind_of(kind), tuple(words[1:])) for kind in kinds]
