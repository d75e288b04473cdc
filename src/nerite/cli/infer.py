# SPDX-License-Identifier: Apache-2.0
"""`nerite infer`: one request to a running server, and its answer readable."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nerite.cli import screen
from nerite.cli.client import API_KEY, Answer, Client, Tensor
from nerite.cli.connections import DEFAULT_URL, CaFile, Insecure, Trust, Url
from nerite.cli.images import Scale
from nerite.cli.inputs import read_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHOWN = 8


def infer(  # noqa: PLR0917 - each is an argument or option of the command
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT=VALUE]...",
            help="VALUE is JSON, text for BYTES, or a file: @x.json, @x.npy, @x.txt, @x.png.",
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: Annotated[str, typer.Option(envvar=API_KEY, help="API key to show.")] = "",
    model_version: Annotated[str, typer.Option(help="Version; the newest if left out.")] = "",
    scale: Annotated[Scale, typer.Option(help="Pixels as 0..255, 0..1 or -1..1.")] = "none",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
    ca_file: CaFile = "",
    insecure: Insecure = False,
) -> None:
    """Send one request to a model and print the answer; missing shapes come from the model."""
    with Client(url, api_key, trust=Trust(ca_file, insecure)) as client:
        metadata = client.metadata(model, model_version)
        tensors = read_inputs(inputs or [], metadata, scale)
        begin = time.perf_counter()
        answer = client.infer(model, tensors, model_version)
        elapsed = time.perf_counter() - begin
    if as_json:
        typer.echo(json.dumps(as_document(answer)))
        return
    paint = screen.Paint.for_stdout()
    title = f"{answer.model} version {answer.version}, {elapsed * 1000:.1f} ms"
    typer.echo(paint.dim(title), file=sys.stderr)
    typer.echo(readable(answer.outputs, paint))


def as_document(answer: Answer) -> dict[str, Any]:
    """The answer as the protocol's JSON, all data spelled out."""
    return {
        "model_name": answer.model,
        "model_version": answer.version,
        **({"parameters": dict(answer.parameters)} if answer.parameters else {}),
        "outputs": [
            {
                "name": name,
                "datatype": tensor.datatype,
                "shape": list(tensor.array.shape),
                "data": [_plain(item) for item in tensor.array.ravel().tolist()],
            }
            for name, tensor in answer.outputs.items()
        ],
    }


def readable(outputs: Mapping[str, Tensor], paint: screen.Paint) -> str:
    """A line for each output, and one more for the largest values of a long row of numbers."""
    kinds = {name: _kind(tensor) for name, tensor in outputs.items()}
    widths = max(map(len, outputs), default=0), max(map(len, kinds.values()), default=0)
    return "\n".join(
        f"{paint.bold(name.ljust(widths[0]))}  {paint.dim(kinds[name].ljust(widths[1]))}  "
        f"{_values(tensor.array)}"
        for name, tensor in outputs.items()
    )


def _kind(tensor: Tensor) -> str:
    return f"{tensor.datatype}[{','.join(map(str, tensor.array.shape))}]"


def _values(array: NDArray[Any]) -> str:
    flat = array.ravel()
    values = ", ".join(_short(item) for item in flat[:SHOWN].tolist())
    if flat.size <= SHOWN:
        return values
    text = f"{values}, ... ({flat.size} values)"
    return f"{text}\n  {_largest(flat)}" if array.dtype.kind == "f" else text


def _largest(flat: NDArray[Any]) -> str:
    order = flat.argsort()[::-1][:3]
    return "largest: " + ", ".join(f"{_short(flat[index].item())} at {index}" for index in order)


def _short(item: object) -> str:
    if isinstance(item, bytes):
        return json.dumps(item.decode("utf-8", "backslashreplace"), ensure_ascii=False)
    return f"{item:.6g}" if isinstance(item, float) else str(item).lower()


def _plain(item: object) -> object:
    if not isinstance(item, bytes):
        return item
    try:
        return item.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(item).decode()}
