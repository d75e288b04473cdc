# SPDX-License-Identifier: Apache-2.0
"""Model folders as the recordings write them, on disk."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_model(folder: Path, files: Mapping[str, Any]) -> Path:
    """A model folder from text, `{"b64": ...}` for binary content, or None for an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else base64.b64decode(content["b64"])
        path.write_bytes(data)
    return folder
