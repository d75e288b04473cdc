# SPDX-License-Identifier: Apache-2.0
"""What KServe decides about every service, decided anew only where it may come out differently.

A decision is a function of the service and of everything that is no service, no graph and no
TrainedModel: runtimes, storage containers, credentials. With a thousand services each change of
one would take a second otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nerite.kserve.admission import Cluster
from nerite.kserve.admission import Key as ObjectKey
from nerite.kserve.documents import Object
from nerite.kserve.rendering import Rendering, render_service
from nerite.kserve.resources import Resource

Key = tuple[str, str]
#: Kinds that no decision about a service looks at, the service itself aside.
_APART = ("InferenceService", "InferenceGraph", "TrainedModel")


class Decisions:
    """See the module."""

    def __init__(self) -> None:
        self._around: dict[ObjectKey, Object] = {}
        self._made: dict[Key, Rendering] = {}

    def about(self, services: Iterable[Resource], cluster: Cluster) -> Mapping[Key, Rendering]:
        """The decisions by namespace and name; objects of a catalog are replaced, never changed."""
        around = _around(cluster)
        if not _are_same(around, self._around):
            self._around, self._made = around, {}
        self._made = {
            (service.namespace, service.name): self._decided(service, cluster)
            for service in services
        }
        return self._made

    def _decided(self, service: Resource, cluster: Cluster) -> Rendering:
        made = self._made.get((service.namespace, service.name))
        if made is not None and _is_same(made.service, service):
            return made
        return render_service(service, cluster)


def _around(cluster: Cluster) -> dict[ObjectKey, Object]:
    found: dict[ObjectKey, Object] = dict(cluster.others)
    found |= {key: each.object for key, each in cluster.resources.items() if key[0] not in _APART}
    return found


def _are_same(one: Mapping[ObjectKey, Object], other: Mapping[ObjectKey, Object]) -> bool:
    return one.keys() == other.keys() and all(other[key] is value for key, value in one.items())


def _is_same(one: Resource, other: Resource) -> bool:
    return one.object is other.object and one.document.file == other.document.file
