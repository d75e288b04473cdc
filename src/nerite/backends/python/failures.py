# SPDX-License-Identifier: Apache-2.0
"""How a model says that something failed, and how its exceptions are worded for clients.

Triton's Python backend prints `Type: message`, then the frames, innermost first. Frames of
Nerite and of the import system are left out: they say nothing about the model.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final, NoReturn

from nerite.errors import (
    AlreadyExists,
    Cancelled,
    InternalError,
    InvalidArgument,
    NeriteError,
    NotFound,
    Unavailable,
    UnknownError,
    Unsupported,
)

_OURS: Final = (str(Path(__file__).parent), "<frozen importlib")


class TritonModelException(Exception):
    """Raise it from a model to fail what it was asked to do."""

    def message(self) -> str:
        """The text."""
        return str(self)


class TritonError:
    """An error for one response: a text and one of Triton's codes."""

    UNKNOWN: ClassVar[int] = 0
    INTERNAL: ClassVar[int] = 1
    NOT_FOUND: ClassVar[int] = 2
    INVALID_ARG: ClassVar[int] = 3
    UNAVAILABLE: ClassVar[int] = 4
    UNSUPPORTED: ClassVar[int] = 5
    ALREADY_EXISTS: ClassVar[int] = 6
    CANCELLED: ClassVar[int] = 7

    __slots__ = ("_code", "_message")

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        if code not in ERRORS:
            raise TritonModelException(f"{code} is not a code of TritonError; use its constants")
        self._message = message
        self._code = code

    def message(self) -> str:
        """The text."""
        return self._message

    def code(self) -> int:
        """The code, one of the constants of this class."""
        return self._code

    def __str__(self) -> str:
        return self._message

    def as_exception(self) -> NeriteError:
        """The same as an error of Nerite."""
        return ERRORS[self._code](self._message)


ERRORS: Final[Mapping[int, type[NeriteError]]] = {
    TritonError.UNKNOWN: UnknownError,
    TritonError.INTERNAL: InternalError,
    TritonError.NOT_FOUND: NotFound,
    TritonError.INVALID_ARG: InvalidArgument,
    TritonError.UNAVAILABLE: Unavailable,
    TritonError.UNSUPPORTED: Unsupported,
    TritonError.ALREADY_EXISTS: AlreadyExists,
    TritonError.CANCELLED: Cancelled,
}


def describe(error: BaseException) -> str:
    """`ValueError: it broke`, then `At:` and one line per frame of the model's code, if any."""
    text = f"{type(error).__name__}: {error}"
    frames = [
        f"  {frame.filename}({frame.lineno}): {frame.name}\n"
        for frame in reversed(traceback.extract_tb(error.__traceback__))
        if not frame.filename.startswith(_OURS)
    ]
    return text + "\n\nAt:\n" + "".join(frames) if frames else text


def failed_requests(instance: str, what: str) -> str:
    """Triton's text for a batch that failed as a whole."""
    return f"Failed to process the request(s) for model '{instance}', message: {what}"


def refuse(what: str) -> NoReturn:
    """Says that a part of `triton_python_backend_utils` is not there yet."""
    raise Unsupported(f"{what} is not supported by this version of Nerite")
