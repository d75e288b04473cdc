# SPDX-License-Identifier: Apache-2.0
"""A picture file -> an array in the layout and size that a model's input asks for.

Needs Pillow, which Nerite does not install by itself. What the pixels must mean is the model's own
affair; only the three usual ways to scale them are offered, under the names that Triton's image
client gave them (`unit` is ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nerite.errors import InvalidArgument, MissingExtra

if TYPE_CHECKING:
    from numpy.typing import NDArray

Scale = Literal["none", "unit", "inception"]
ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})


def read_image(path: Path, shape: Sequence[int], scale: Scale) -> NDArray[Any]:
    """The picture as float32 [channels, height, width], or channels last if `shape` has them last.

    Raises:
        InvalidArgument: The file is no picture.
        MissingExtra: Pillow is not installed.
    """
    import numpy as np

    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as cause:
        raise MissingExtra(f"reading the image '{path}'", "pillow", "image") from cause
    channels, height, width, channels_first = _layout(shape)
    try:
        with Image.open(path) as image:
            picture = image.convert("L" if channels == 1 else "RGB")
    except UnidentifiedImageError as cause:
        raise InvalidArgument(f"the file '{path}' is not a picture that Pillow can read") from cause
    size = (width if width > 0 else picture.width, height if height > 0 else picture.height)
    pixels = np.asarray(picture.resize(size), dtype=np.float32).reshape(size[1], size[0], channels)
    return scaled(pixels.transpose(2, 0, 1) if channels_first else pixels, scale)


def _layout(shape: Sequence[int]) -> tuple[int, int, int, bool]:
    """Channels, height, width and whether the channels come first, from a model's shape."""
    dims = [int(dim) for dim in shape][-3:]
    if len(dims) < 3:
        raise InvalidArgument(f"an input of shape {list(shape)} does not take a picture")
    if dims[0] in (1, 3):
        return dims[0], dims[1], dims[2], True
    return (1 if dims[2] == 1 else 3), dims[0], dims[1], False


def scaled(pixels: NDArray[Any], scale: Scale) -> NDArray[Any]:
    """Pixels 0..255 as they are, as 0..1 (`unit`) or as -1..1 (`inception`)."""
    if scale == "unit":
        return pixels / 255
    return pixels / 127.5 - 1 if scale == "inception" else pixels
