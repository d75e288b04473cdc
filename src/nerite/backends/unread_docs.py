# SPDX-License-Identifier: Apache-2.0
"""Spares a server the documentation of SciPy, which nobody reads there.

While it is imported, SciPy takes the docstrings of some hundred functions apart and writes them
anew, with notes about array libraries and the parameters that decorators add: a quarter of the
time in which scikit-learn is imported. Here they stay as they stand in its sources. Functions and
their signatures are the same; only `help` would tell less, so this is for processes that are a
server and nothing else. Versions of SciPy that nobody has looked at are left as they are.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

#: The first and the last version (major, minor) of which is known what it does with docstrings.
KNOWN: Final = ((1, 13), (1, 17))


class _Allowed:
    """Whether the process is a server and nothing else."""

    now = False


def allow() -> None:
    """Says that nobody will ask this process for help about SciPy."""
    _Allowed.now = True


def leave_unread() -> None:
    """Has SciPy keep its docstrings as they are, from now on; for before it is imported."""
    if not _Allowed.now:
        return
    _Allowed.now = False
    try:
        version = import_module("scipy").__version__
        if KNOWN[0] <= tuple(map(int, version.split(".")[:2])) <= KNOWN[1]:
            _replace(import_module("scipy._lib._docscrape"), import_module("scipy._lib.doccer"))
    except (ImportError, AttributeError, ValueError):  # not installed, or other than it was
        return


class Unread:
    """A docstring as one text; its sections are empty, and what is put in is lost."""

    def __init__(self, func: Any, *_: Any, **__: Any) -> None:
        self._text = getattr(func, "__doc__", None) or ""
        self._sections: dict[str, list[Any]] = {}

    def __getitem__(self, key: str) -> list[Any]:
        return self._sections.setdefault(key, [])

    def __setitem__(self, key: str, value: list[Any]) -> None:
        self._sections[key] = value

    def __str__(self) -> str:
        # Whoever asks cuts the first line off, which would be the signature.
        return f"\n{self._text}"


def _replace(docscrape: Any, doccer: Any) -> None:
    if callable(docscrape.FunctionDoc) and callable(doccer.docformat):
        docscrape.FunctionDoc = Unread
        doccer.docformat = lambda docstring, *_, **__: docstring
