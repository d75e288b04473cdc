# SPDX-License-Identifier: Apache-2.0
"""Say what a cluster would make of some files, runtime by runtime.

`explain` is the whole decision as data, one `Explanation` per InferenceService in the order of the
files; `as_json` is what `nerite explain --json` prints, `as_text` what it prints for people. A file
that a cluster would refuse raises `Refused` before anything is explained. Colours are the caller's
business: `as_text` only says which part of a line plays which role.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nerite.kserve.admission import Cluster, admit_all, is_foreign
from nerite.kserve.builtin_runtimes import builtin_cluster
from nerite.kserve.documents import Document, Object, read_files
from nerite.kserve.rendering import Rendering, render_service
from nerite.kserve.selection import Candidate

Role = Literal["name", "chosen", "eligible", "rejected", "error", "hint"]
Style = Callable[[Role, str], str]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The decision for one InferenceService.

    `chosen` is None for a predictor that brings its own container, and where `error` says why.
    """

    name: str
    namespace: str
    chosen: str | None
    error: str | None
    candidates: tuple[Candidate, ...]
    defaulted: Object
    containers: list[Object]
    custom: bool
    warnings: tuple[str, ...] = ()


def explain_files(paths: Sequence[str | Path], builtin: str = "0.20") -> list[Explanation]:
    """The explanations for the services in files and folders, beside the built-in runtimes."""
    return explain(read_files(list(paths)), builtin_cluster(builtin))


def explain(documents: Iterable[Document], cluster: Cluster) -> list[Explanation]:
    """The explanations for the services among `documents`; runtimes may stand anywhere among them.

    Documents of one file have one age, so ties between their runtimes go by name. Documents of
    other APIs are left out.
    """
    documents = [document for document in documents if not is_foreign(document)]
    cluster = admit_all(documents, cluster)
    keys = {
        (str(meta.get("namespace") or "default"), str(meta.get("name")))
        for document in documents
        if document.kind == "InferenceService"
        for meta in [document.value["metadata"]]
    }
    services = [s for s in cluster.of_kind("InferenceService") if (s.namespace, s.name) in keys]
    return [_explanation(render_service(service, cluster), cluster) for service in services]


def _explanation(rendering: Rendering, cluster: Cluster) -> Explanation:
    service, selection, failure = rendering.service, rendering.selection, rendering.failure
    predictor = rendering.predictor
    warnings = list(rendering.warnings)
    if selection and not selection.chosen:
        warnings += _out_of_sight(service.namespace, cluster)
    return Explanation(
        name=service.name,
        namespace=service.namespace,
        chosen=selection.chosen.name if selection and selection.chosen else None,
        error=failure.error if failure else None,
        candidates=selection.candidates if selection else (),
        defaulted=service.object,
        containers=list(predictor.pod["containers"]) if predictor else [],
        custom="model" not in service.spec["predictor"],
        warnings=tuple(warnings),
    )


def _out_of_sight(namespace: str, cluster: Cluster) -> list[str]:
    """Runtimes that KServe does not even look at, which its users take for candidates."""
    return [
        f'the ServingRuntime "{runtime.name}" is of namespace "{runtime.namespace}", which a '
        f'service of namespace "{namespace}" does not see'
        for runtime in cluster.of_kind("ServingRuntime")
        if runtime.namespace != namespace
    ]


def as_json(explanations: Iterable[Explanation]) -> list[Object]:
    """The list that `--json` prints; its keys are fixed."""
    return [
        {
            "name": found.name,
            "namespace": found.namespace,
            "chosen": found.chosen,
            "error": found.error,
            "candidates": [
                {
                    "runtime": candidate.runtime.name,
                    "scope": candidate.scope,
                    "outcome": candidate.outcome,
                    "reason": candidate.reason,
                }
                for candidate in found.candidates
            ],
            "defaulted": found.defaulted,
            "containers": found.containers,
        }
        for found in explanations
    ]


def plain(_: Role, text: str) -> str:
    """The style of a text without colours."""
    return text


def as_text(explanations: Iterable[Explanation], style: Style = plain) -> str:
    """The same for people: the choice, every candidate with its reason, and what would run."""
    return "\n\n".join("\n".join(_lines(found, style)) for found in explanations)


def _lines(found: Explanation, style: Style) -> list[str]:
    name = style("name", f"{found.namespace}/{found.name}")
    lines = [f"{name}: {_verdict(found, style)}"]
    lines += _candidate_lines(found.candidates, style)
    for container in found.containers:
        lines.append(f"  runs {container.get('name', '')}: {container.get('image', 'no image')}")
        command = [*container.get("command", []), *container.get("args", [])]
        if command:
            lines.append(f"    {' '.join(command)}")
    lines += [f"  {style('hint', 'warning:')} {warning}" for warning in found.warnings]
    return lines


def _verdict(found: Explanation, style: Style) -> str:
    if found.error:
        return style("error", f"cannot run: {found.error}")
    if found.custom:
        return "runs its own container; no runtime is selected"
    return f"runs on {style('chosen', str(found.chosen))}"


def _candidate_lines(candidates: Sequence[Candidate], style: Style) -> list[str]:
    """A row per runtime; hints, which are long, below their row."""
    if not candidates:
        return []
    width = max(len(candidate.runtime.name) for candidate in candidates)
    lines = []
    for candidate in candidates:
        name, (reason, _, hint) = candidate.runtime.name, candidate.reason.partition("; hint: ")
        outcome = style(candidate.outcome, f"{candidate.outcome:<8}")
        lines.append(f"  {outcome}  {name:<{width}}  {candidate.scope:<9}  {reason}")
        if hint:
            lines.append(f"{'':12}{style('hint', 'hint:')} {hint}")
    return lines
