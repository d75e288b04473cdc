# SPDX-License-Identifier: Apache-2.0
"""Write traces to files in Triton's format: one JSON array of entries (`spec` 7.3).

Triton writes at a clean end only and loses everything at any other. Here a file is a whole JSON
array after each batch, so that whoever reads it, and whenever the server ends, has what was traced.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from nerite.server.trace_options import Trace

_END = b"\n]\n"


class TraceFile:
    """The traces of a server: `{file}`, and `{file}.{index}` for each part that is full."""

    def __init__(self, file: str) -> None:
        self._path = Path(file)
        self._index = 0
        self._plain: _Part | None = None
        self._parts: dict[int, _Part] = {}
        self._taken: dict[int, int] = {}

    def write(self, traces: Sequence[Trace]) -> None:
        """Adds traces; a part is full after `log_frequency`, or with the last of a count."""
        for trace in traces:
            # The rule comes with the trace: the settings may be others by now.
            rule, frequency = trace["rule"], trace["log_frequency"]
            part = self._part(rule if frequency else None)
            part.add(trace)
            if trace["parent_id"]:
                continue  # what is counted is the request, whose trace follows those of its steps
            self._taken[rule] = self._taken.get(rule, 0) + 1
            if 0 < frequency <= part.traces or self._taken[rule] == trace["count"]:
                self._finish(part)
        for part in self._open():
            part.flush()

    def close(self) -> None:
        """Ends what is open."""
        for part in self._open():
            part.close()
        self._plain = None
        self._parts.clear()

    def _open(self) -> list[_Part]:
        return [*self._parts.values(), *([self._plain] if self._plain is not None else [])]

    def _part(self, rule: int | None) -> _Part:
        """The part that traces of a rule go to; those without a frequency share the plain file."""
        if rule is None:
            if self._plain is None:
                self._plain = _Part(self._path)
            return self._plain
        if rule not in self._parts:
            self._parts[rule] = _Part(self._indexed())
        return self._parts[rule]

    def _finish(self, part: _Part) -> None:
        part.close()
        if part is self._plain:
            part.path.replace(self._indexed())
            self._plain = None
        self._parts = {rule: other for rule, other in self._parts.items() if other is not part}

    def _indexed(self) -> Path:
        path = self._path.with_name(f"{self._path.name}.{self._index}")
        self._index += 1
        return path


class _Part:
    """One file; a JSON array whenever nobody is writing to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.traces = 0
        self._file: IO[bytes] = path.open("wb")
        self._pending: list[str] = []
        self._end = 0

    def add(self, trace: Trace) -> None:
        self.traces += not trace["parent_id"]
        self._pending += [json.dumps(entry, separators=(",", ":")) for entry in entries_of(trace)]

    def flush(self) -> None:
        if not self._pending:
            return
        text = (",\n" if self._end else "[\n") + ",\n".join(self._pending)
        self._pending.clear()
        data = text.encode()
        # The new entries lie over the old end in one write.
        self._file.seek(self._end)
        self._file.write(data + _END)
        self._file.flush()
        self._end += len(data)

    def close(self) -> None:
        self.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def entries_of(trace: Trace) -> Iterator[dict[str, Any]]:
    """The entries of one trace: what was asked, when it passed where, and what it carried."""
    head = {
        "id": trace["id"],
        "model_name": trace["model_name"],
        "model_version": trace["model_version"],
    }
    if trace["request_id"]:
        head["request_id"] = trace["request_id"]
    if trace["parent_id"]:
        head["parent_id"] = trace["parent_id"]
    yield head
    if trace["points"]:
        points = [{"name": name, "ns": ns} for name, ns in trace["points"]]
        yield {"id": trace["id"], "timestamps": points}
    for activity, key in (("TENSOR_QUEUE_INPUT", "inputs"), ("TENSOR_BACKEND_OUTPUT", "outputs")):
        for name, datatype, shape, data in trace[key]:
            tensor = {
                "name": name,
                "data": _text(datatype, data),
                "shape": ",".join(map(str, shape)),
                "dtype": datatype,
            }
            yield {"id": trace["id"], "activity": activity, "tensor": tensor}


def _text(datatype: str, data: bytes) -> str:
    """Elements separated by commas; strings in quotes."""
    import numpy as np

    from nerite.tensors import deserialize_bytes, dtype_of

    if datatype == "BYTES":
        words = deserialize_bytes(data)
        return ",".join(json.dumps(bytes(word).decode(errors="replace")) for word in words)
    if datatype == "BF16":
        bits = np.frombuffer(data, np.uint16).astype(np.uint32) << 16
        return ",".join(map(str, bits.view(np.float32).tolist()))
    items = np.frombuffer(data, dtype_of(datatype)).tolist()
    return ",".join(f"{item:g}" if isinstance(item, float) else str(item) for item in items)
