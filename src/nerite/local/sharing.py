# SPDX-License-Identifier: Apache-2.0
"""Whether a predictor's model may live in a process beside those of other services. Pure.

Isolation is the default. `nerite up --shared` asks for all services, the annotation for one, and
goes before the flag. What needs anything of its process that others would get too has its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from nerite.kserve.defaulting import MODEL_MOUNT
from nerite.kserve.documents import Object
from nerite.kserve.resources import Resource
from nerite.kserve.storage_paths import Source
from nerite.local.containers import Container

ANNOTATION: Final = "nerite.dev/shared"
_WORDS = {"true": True, "false": False}
#: Variables that say which model it is, to servers that Nerite stands in for.
_MEANINGLESS = ("INFERENCE_SERVICE_NAME", "MLSERVER_", "PROTOCOL_VERSION")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def is_asked_for(service: Resource, by_default: bool) -> tuple[bool, str]:
    """Whether a service is to share, and what is wrong with how it says so."""
    told = (service.object["metadata"].get("annotations") or {}).get(ANNOTATION)
    if told is None:
        return by_default, ""
    if told not in _WORDS:
        return by_default, f'the annotation {ANNOTATION} is "{told}"; known: "true", "false"'
    return _WORDS[told], ""


def own_process_needed(
    spec: Object,
    containers: Sequence[Container],
    passed: Sequence[str],
    sources: Sequence[Source],
) -> str:
    """Why a predictor cannot share; empty if it can.

    `spec` is the predictor's; `passed` are the arguments that Nerite would get for it.
    """
    model: Object = spec.get("model") or {}
    if len(containers) != 1:
        return f"its pod has {len(containers)} containers that run here"
    name = containers[0].model_name
    if not name:
        return "Nerite does not stand in for it"
    if not _NAME.fullmatch(name):
        return f"its model's name ('{name}') cannot be a folder's beside others"
    if passed:
        return f"its arguments ({' '.join(passed)}) would be all models'"
    variables = [variable for variable, _ in containers[0].environment]
    own = [each for each in variables if not each.startswith(_MEANINGLESS)]
    if own:
        return f"its environment ({', '.join(sorted(own))}) would be all models'"
    probes = [key for key in _PROBES if model.get(key)]
    if probes:
        return f"its {', '.join(probes)} would end all models' process"
    for key, most in (("minReplicas", 1), ("containerConcurrency", 0)):
        if int(spec.get(key) or 0) > most:
            return f"{key} is {spec[key]}, and each copy needs a process of its own for that"
    if len(sources) != 1 or sources[0].mount_path != MODEL_MOUNT:
        return f"it has {len(sources)} storageUris with folders of their own"
    return ""
