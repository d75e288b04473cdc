# SPDX-License-Identifier: Apache-2.0
"""Spares a server what SciPy and NumPy do at their import for people only.

- SciPy takes the docstrings of some hundred functions apart and writes them anew, with notes about
  array libraries and the parameters that decorators add: a quarter of the time in which
  scikit-learn is imported. Here they stay as they stand in its sources. Functions and their
  signatures are the same; only `help` tells less.
- SciPy and scikit-learn copy every name of NumPy into a module of their own, and with `f2py` get
  a compiler's front end that nobody calls. Here the copies lack that name; NumPy has it as ever.

This is for processes that are a server and nothing else (`allow`), and for versions of SciPy of
which is known what they do.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

#: The first and the last version (major, minor) of SciPy that was looked at.
KNOWN: Final = ((1, 13), (1, 17))
_COMPILER: Final = "f2py"


class _State:
    lock = threading.Lock()
    allowed = False
    """Whether the process is a server and nothing else."""
    known: bool | None = None
    """Whether SciPy is of a known version; None before it was looked at."""


def allow() -> None:
    """Says that nobody will ask this process for help about SciPy."""
    _State.allowed = True


@contextmanager
def lean_imports() -> Iterator[None]:
    """For the first import of what imports SciPy; does nothing unless it was allowed."""
    if not _State.allowed:
        yield
        return
    with _State.lock:
        if _State.known is None:
            _State.known = _leave_docs_unread()
        if not _State.known:
            yield
            return
        with _without_compiler(import_module("numpy")):
            yield


def _leave_docs_unread() -> bool:
    """From now on; whether SciPy is there, and of a known version."""
    try:
        version = import_module("scipy").__version__
        known = KNOWN[0] <= tuple(map(int, version.split(".")[:2])) <= KNOWN[1]
        if known:
            docscrape: Any = import_module("scipy._lib._docscrape")
            doccer: Any = import_module("scipy._lib.doccer")
            if callable(docscrape.FunctionDoc) and callable(doccer.docformat):
                docscrape.FunctionDoc = Unread
                doccer.docformat = lambda docstring, *_, **__: docstring
    except (ImportError, AttributeError, ValueError):  # not installed, or other than it was
        return False
    return known


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


@contextmanager
def _without_compiler(numpy: Any) -> Iterator[None]:
    """Meanwhile neither `dir` nor a star import finds it; `numpy.f2py` is there as ever."""
    names, listed = getattr(numpy, "__all__", None), getattr(numpy, "__dir__", None)
    if not isinstance(names, list) or _COMPILER not in names or not callable(listed):
        yield
        return
    numpy.__all__ = [name for name in names if name != _COMPILER]
    numpy.__dir__ = lambda: [name for name in listed() if name != _COMPILER]
    try:
        yield
    finally:
        numpy.__all__, numpy.__dir__ = names, listed
