# SPDX-License-Identifier: Apache-2.0
"""How people name resources: `isvc irises`, `inferenceservice/irises`, `servingruntimes`, `all`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nerite.errors import InvalidArgument

_SHORT = {
    "isvc": "InferenceService",
    "ig": "InferenceGraph",
    "graph": "InferenceGraph",
    "graphs": "InferenceGraph",
    "tm": "TrainedModel",
    "sa": "ServiceAccount",
    "csr": "ClusterServingRuntime",
    "csc": "ClusterStorageContainer",
    "sr": "ServingRuntime",
}
#: What belongs to somebody's work, and to no cluster.
_ALL = ("InferenceService", "InferenceGraph", "TrainedModel", "ServingRuntime")


@dataclass(frozen=True, slots=True)
class Named:
    """A kind, and the objects of it that are meant; none means all."""

    kind: str
    names: tuple[str, ...] = ()
    namespace: str = ""
    """Where they are, if that was said with them."""


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
        there = ", ".join(sorted(["all", *_SHORT, *PLURALS.values()]))
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
    kinds = [kind for word in words[0].split(",") for kind in _kinds_of(word)]
    if len(kinds) > 1 and len(words) > 1:
        raise InvalidArgument("name one kind, or no names: several kinds have no names in common")
    return [Named(kind, tuple(words[1:])) for kind in dict.fromkeys(kinds)]


def _kinds_of(word: str) -> Sequence[str]:
    return _ALL if word.lower() == "all" else (kind_of(word),)
