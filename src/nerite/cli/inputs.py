# SPDX-License-Identifier: Apache-2.0
"""Words and files of the command line -> tensors that fit what the model says it takes.

A value is JSON (`IN=[1,2]`), or text for a BYTES input, or a file (`IN=@cat.png`). Only shapes are
filled in, from the model's metadata: what the numbers must mean is the model's own affair, except
for the three usual ways to scale pixels (`--scale`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerite.cli import images
from nerite.cli.client import Tensor
from nerite.cli.images import Scale
from nerite.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def read_inputs(
    words: Sequence[str], metadata: Mapping[str, Any], scale: Scale = "none"
) -> dict[str, Tensor]:
    """Input name -> tensor, for words like `NAME=VALUE`, or one `VALUE` for a model of one input.

    Raises:
        InvalidArgument: A name is unknown or given twice, or a value does not fit.
        MissingExtra: An image is given, and Pillow is not installed.
    """
    declared = {spec["name"]: spec for spec in metadata["inputs"]}
    found: dict[str, Tensor] = {}
    for word in words:
        name, value = _named(word, list(declared), metadata["name"])
        if name in found:
            raise InvalidArgument(f"input '{name}' is given twice")
        array = _read(value, declared[name], scale)
        found[name] = Tensor(declared[name]["datatype"], fitted(array, declared[name]))
    return found


def _named(word: str, names: list[str], model: str) -> tuple[str, str]:
    """Splits `NAME=VALUE`; a bare value is meant for the only input."""
    name, equals, value = word.partition("=")
    if equals and name in names:
        return name, value
    if len(names) == 1 and not (equals and name.isidentifier()):
        return names[0], word
    known = ", ".join(f"'{n}'" for n in names)
    if equals:
        raise InvalidArgument(f"model '{model}' has no input '{name}'; its inputs are {known}")
    raise InvalidArgument(
        f"'{word}' names no input of model '{model}'; write NAME=VALUE with {known}"
    )


def _read(value: str, spec: Mapping[str, Any], scale: Scale) -> NDArray[Any]:
    if value.startswith("@"):
        return _read_file(Path(value[1:]), spec, scale)
    if spec["datatype"] == "BYTES":
        return _from_json(value, spec) if value.startswith("[") else _one_element(value.encode())
    if Path(value).suffix and Path(value).exists():
        raise InvalidArgument(
            f"input '{spec['name']}': to send the file, write {spec['name']}=@{value}"
        )
    return _from_json(value, spec)


def _read_file(path: Path, spec: Mapping[str, Any], scale: Scale) -> NDArray[Any]:
    import numpy as np

    if not path.is_file():
        raise InvalidArgument(f"input '{spec['name']}': there is no file '{path}'")
    if path.suffix == ".npy":
        return _cast(np.load(path, allow_pickle=False), spec)
    if spec["datatype"] == "BYTES":
        return _one_element(path.read_bytes())
    if path.suffix.lower() in images.ENDINGS:
        return _cast(images.read_image(path, spec["shape"], scale), spec)
    return _from_json(path.read_text(), spec)


def _from_json(text: str, spec: Mapping[str, Any]) -> NDArray[Any]:
    import numpy as np

    try:
        data = json.loads(text)
        if spec["datatype"] == "BYTES":
            return _objects(data)
        return _cast(np.array(data), spec)
    except (ValueError, TypeError, OverflowError) as cause:
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        raise InvalidArgument(
            f"input '{spec['name']}': '{shown}' is not {spec['datatype']} data; give JSON numbers, "
            "nested or flat, or a file as @PATH"
        ) from cause


def _objects(data: object) -> NDArray[Any]:
    """An array of `bytes` in the nesting of the JSON lists."""
    import numpy as np

    from nerite.tensors import object_array

    texts: NDArray[Any] = np.array(data, dtype=np.object_)
    encoded = [_element(item) for item in texts.ravel().tolist()]
    return object_array(encoded).reshape(texts.shape)


def _element(item: object) -> bytes:
    """Text, or `{"b64": "..."}` for bytes that are none."""
    if isinstance(item, dict):
        if list(item) != ["b64"]:
            raise ValueError("an object, but not one with b64 alone")
        return base64.b64decode(item["b64"], validate=True)
    return item if isinstance(item, bytes) else str(item).encode()


def _one_element(content: bytes) -> NDArray[Any]:
    from nerite.tensors import object_array

    return object_array([content])


def _cast(array: NDArray[Any], spec: Mapping[str, Any]) -> NDArray[Any]:
    """The array in the input's data type; nothing is rounded, wrapped or read as something else."""
    import numpy as np

    from nerite.tensors import dtype_of

    name, datatype = spec["name"], spec["datatype"]
    if datatype == "BYTES":
        return _objects(array.tolist())
    if array.dtype.kind not in "biuf":
        raise InvalidArgument(f"input '{name}' takes {datatype}, not {array.dtype}")
    if datatype == "BF16":
        return array if array.dtype == np.uint16 else _bf16_bits(array)
    wanted = dtype_of(datatype)
    if wanted.kind in "iu":
        _check_whole(array, wanted, spec)
    return array.astype(wanted)


def _check_whole(array: NDArray[Any], wanted: np.dtype[Any], spec: Mapping[str, Any]) -> None:
    import numpy as np

    limits = np.iinfo(wanted)
    if array.dtype.kind == "f" and not np.all(array == np.trunc(array)):
        raise InvalidArgument(f"input '{spec['name']}' takes whole numbers ({spec['datatype']})")
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise InvalidArgument(
            f"input '{spec['name']}' takes {spec['datatype']}, from {limits.min} to {limits.max}"
        )


def _bf16_bits(array: NDArray[Any]) -> NDArray[Any]:
    """The upper halves of the FP32 patterns, rounded to the nearest, ties to even."""
    import numpy as np

    bits = array.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def fitted(array: NDArray[Any], spec: Mapping[str, Any]) -> NDArray[Any]:
    """The array in the shape that the model asks for, if there is only one way to get there.

    Raises:
        InvalidArgument: The number of elements or of dimensions leaves none, or more than one.
    """
    from nerite.tensors import fits

    shape = [int(dim) for dim in spec["shape"]]
    if fits(array.shape, shape):
        return array
    if shape[:1] == [-1] and fits(array.shape, shape[1:]):
        return array[None]
    filled = _fill(array.size, shape)
    if filled is None:
        raise InvalidArgument(
            f"input '{spec['name']}' takes shape {shape}, got {list(array.shape)}; "
            "nest the data as the shape asks, or give a .npy file of that shape"
        )
    return array.reshape(filled)


def _fill(size: int, shape: list[int]) -> list[int] | None:
    """Fills one open dimension by division; with more, the leading one is a batch of one."""
    open_at = [axis for axis, dim in enumerate(shape) if dim == -1]
    known = 1
    for dim in shape:
        known *= dim if dim != -1 else 1
    if not open_at:
        return shape if size == known else None
    if known == 0 or size % known:
        return None
    filled = [1 if dim == -1 else dim for dim in shape]
    if len(open_at) > 2 or (len(open_at) == 2 and open_at[0] != 0):
        return filled if size == known else None
    filled[open_at[-1]] = size // known
    return filled
