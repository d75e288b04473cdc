# SPDX-License-Identifier: Apache-2.0
"""The containers of one pod as processes of this machine: Nerite, or a program that is here.

Pure, like `components`, which calls it: nothing is fetched or started here.
"""

from __future__ import annotations

import posixpath

from nerite.kserve.admission import Cluster
from nerite.kserve.defaulting import KSERVE_CONTAINER, TRANSFORMER_CONTAINER
from nerite.kserve.documents import Object
from nerite.kserve.rendering import Rendering
from nerite.kserve.workloads import Workload, is_multi_model
from nerite.local.containers import (
    Container,
    Probe,
    expand,
    fixed_ports,
    ports_of,
    probe_of,
    vital_probe_of,
)
from nerite.local.stand_ins import (
    FORMATS,
    Machine,
    is_stood_in,
    model_host,
    server_type,
    stand_in,
)
from nerite.local.variables import Unknown, variables_of


class Impossible(Exception):
    """A container that serves cannot run here; the text says what would be needed."""


class PodBuilder:
    """Turns the containers of one pod into processes."""

    def __init__(
        self, workload: Workload, rendering: Rendering, cluster: Cluster, machine: Machine
    ) -> None:
        self.workload = workload
        self.service = rendering.service
        self.cluster = cluster
        self.machine = machine
        self.warnings: list[str] = []
        self.passed: tuple[str, ...] = ()
        """The arguments of the server that Nerite gets in its place."""
        selection = rendering.selection
        in_runtime = workload.component == "predictor" and "model" in workload.spec
        self.runtime = selection.chosen if selection and in_runtime else None

    def container(self, spec: Object) -> Container | None:
        """The process; None for a sidecar that cannot run here, which a warning tells."""
        name = str(spec.get("name", ""))
        if name == "modelcar":
            raise Impossible(
                f"{self.workload.name} takes its model from an image (oci://), which needs a "
                "container engine; name the model by pvc://, file:// or a local path"
            )
        try:
            return self._stand_in(spec) or self._program(spec)
        except Impossible as impossible:
            first = self.workload.pod["containers"][0].get("name")
            if name in (KSERVE_CONTAINER, TRANSFORMER_CONTAINER, first):
                raise
            self.warnings.append(f"not run here: {impossible}")
            return None

    def _stand_in(self, spec: Object) -> Container | None:
        if self.runtime is None or spec["name"] != KSERVE_CONTAINER:
            return None
        server = server_type(self.runtime)
        format_name = self.workload.spec["model"]["modelFormat"]["name"]
        if not is_stood_in(server, format_name):
            return None
        variables = self._variables(spec)
        found = stand_in(spec, server, self.service.name, variables, self.machine)
        self.warnings += [
            f"the argument {word} of {spec['name']} has no effect on Nerite"
            for word in found.ignored
        ]
        self.passed = found.passed
        if is_multi_model(self.workload.spec):
            return model_host(
                found.container.name, self.machine, found.passed, found.container.environment
            )
        return found.container

    def _program(self, spec: Object) -> Container:
        variables = self._variables(spec)
        words = [expand(w, variables) for w in (*spec.get("command", []), *spec.get("args", []))]
        if not words or (not spec.get("command") and words[0].startswith("-")):
            raise Impossible(self._without_command(spec))
        # An absolute path is one of the image's; here the program may lie elsewhere.
        program = self.machine.which(words[0]) or self.machine.which(posixpath.basename(words[0]))
        if program is None:
            raise Impossible(
                f"{self._called(spec)} runs the program '{words[0]}', which is not on this machine"
                f"{self._image(spec)}; install it, or give 'command' a program that is here"
            )
        ports = ports_of(spec)
        texts = (*words, *variables.values())
        return Container(
            str(spec["name"]),
            (program, *words[1:]),
            probe_of(spec),
            tuple(sorted(variables.items())),
            ports,
            fixed_ports(ports, texts),
            str(spec.get("workingDir", "")),
            grpc_port=_grpc_port(spec),
            liveness=self._vital(spec, "livenessProbe"),
            startup=self._vital(spec, "startupProbe"),
        )

    def _vital(self, spec: Object, key: str) -> Probe | None:
        found = vital_probe_of(spec, key)
        if found is None and spec.get(key):
            self.warnings.append(
                f"the {key} of {self._called(spec)} is not asked: only httpGet and tcpSocket are"
            )
        return found

    def _variables(self, spec: Object) -> dict[str, str]:
        try:
            return variables_of(spec, self.service, self.workload.name, self.cluster)
        except Unknown as unknown:
            raise Impossible(f"{self._called(spec)} {unknown}") from None

    def _called(self, spec: Object) -> str:
        return f"container {spec.get('name', '')} of {self.workload.name}"

    def _image(self, spec: Object) -> str:
        image = spec.get("image")
        return f" (it is in the image {image})" if image else ""

    def _without_command(self, spec: Object) -> str:
        image = spec.get("image", "no image")
        start = f"{self._called(spec)} runs what is in the image {image}"
        if self.runtime is None or spec.get("name") != KSERVE_CONTAINER:
            return f"{start}, and no container engine is used here; give it a 'command'"
        server = server_type(self.runtime)
        format_name = self.workload.spec["model"]["modelFormat"]["name"]
        if server in FORMATS:
            known = ", ".join(sorted(FORMATS[server]))
            return (
                f"{start}; in the place of {server} Nerite serves {known}, not {format_name}: "
                f"give the runtime {self.runtime.name} a 'command' that is on this machine"
            )
        known = ", ".join(sorted(FORMATS))
        return (
            f"{start}; give the runtime {self.runtime.name} a 'command' that is on this machine, "
            f"or the annotation serving.kserve.io/server-type with a server that Nerite stands in "
            f"for ({known})"
        )


def _grpc_port(spec: Object) -> int | None:
    for port in spec.get("ports", []):
        if any(word in port.get("name", "") for word in ("grpc", "h2c")):
            return int(port["containerPort"])
    return None
