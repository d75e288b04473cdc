# SPDX-License-Identifier: Apache-2.0
"""The page on Python, which asks mkdocstrings for each public name."""

from __future__ import annotations

from scripts.site.tables import NOTE

import nerite
from nerite.backends.python import shim

TESTING = ("serve", "batch_of", "answers_of", "model_for", "FakeRequest", "BackendContract")
_FIRST = ("Server", "ServerOptions", "ModelConfig", "check_path")
_CONTRACT = ("Backend", "Model", "Device", "Batch", "Request", "Executed")
_HEAD = f"""{NOTE}
# Python

What `import nerite` has; everything else in the package is internal and may change. Importing it
starts nothing and loads nothing heavy.
"""
_MODEL_PY = """
What a `model.py` imports as `triton_python_backend_utils`, usually as `pb_utils`: names and
behaviour are Triton's.
[How to write one](../guides/python-models.md).
"""


def page() -> str:
    """All public names in groups."""
    errors = [name for name in nerite.__all__ if name not in (*_FIRST, *_CONTRACT)]
    return "".join(
        (
            _HEAD,
            "\n## Servers and configurations\n\n",
            *(_asked(f"nerite.{name}", whole=True) for name in _FIRST),
            "\n## Backends\n\n[How to write one](../guides/backends.md).\n\n",
            *(_asked(f"nerite.{name}") for name in _CONTRACT),
            "\n## Errors\n\nWhich status each becomes is in [Errors](errors.md).\n\n",
            *(_asked(f"nerite.{name}") for name in errors),
            "\n## `nerite.testing`\n\n[How to use it](../guides/testing.md).\n\n",
            *(_asked(f"nerite.testing.{name}") for name in TESTING),
            f"\n## `triton_python_backend_utils`\n{_MODEL_PY}\n",
            *(_asked(f"nerite.backends.python.shim.{name}") for name in shim.__all__),
        )
    )


def _asked(path: str, *, whole: bool = False) -> str:
    """A name; `whole` with members that have no text of their own, as options do."""
    options = "    options:\n      show_if_no_docstring: true\n" if whole else ""
    return f"::: {path}\n{options}\n"
