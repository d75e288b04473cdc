# SPDX-License-Identifier: Apache-2.0
"""Every error Nerite raises, in one tree.

    NeriteError
    ├── UnknownError            UNKNOWN
    ├── InternalError           INTERNAL
    ├── NotFound                NOT_FOUND
    ├── InvalidArgument         INVALID_ARG
    │   └── ConfigError         INVALID_ARG, with file, line, key and fix
    ├── Unavailable             UNAVAILABLE
    │   └── QueueFull           UNAVAILABLE
    ├── Unsupported             UNSUPPORTED
    │   └── MissingExtra        UNSUPPORTED, with the `pip install` that mends it
    ├── AlreadyExists           ALREADY_EXISTS
    ├── Cancelled               CANCELLED
    ├── Unauthenticated         UNAUTHENTICATED
    └── PermissionDenied        PERMISSION_DENIED

The codes are Triton's, and two for API keys, which Triton does not have. Which HTTP and gRPC status
a code becomes is decided once, in `rust/logic/src/error.rs`; nothing here knows about either
protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class NeriteError(Exception):
    """Anything Nerite refuses or fails to do; `code` says which kind, the text says why."""

    code: ClassVar[str] = "INTERNAL"

    @property
    def message(self) -> str:
        """The text a client sees."""
        return str(self)


class UnknownError(NeriteError):
    """The cause could not be told."""

    code = "UNKNOWN"


class InternalError(NeriteError):
    """Nerite or a model failed while doing something that was asked correctly."""

    code = "INTERNAL"


class NotFound(NeriteError):
    """The model, version, file or region does not exist."""

    code = "NOT_FOUND"


class InvalidArgument(NeriteError):
    """The request, configuration or flag is wrong as written."""

    code = "INVALID_ARG"


class Unavailable(NeriteError):
    """It exists, but cannot be used now."""

    code = "UNAVAILABLE"


class QueueFull(Unavailable):
    """The model's queue is at its limit; the request was never started."""


class Unsupported(NeriteError):
    """Understood, but not offered here."""

    code = "UNSUPPORTED"


class MissingExtra(Unsupported):
    """An optional package is not installed; the text names the command that installs it."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the package '{package}', which is not installed; "
            f"run: pip install 'nerite[{extra}]'"
        )
        self.package = package
        self.extra = extra


class AlreadyExists(NeriteError):
    """A thing of that name is already there."""

    code = "ALREADY_EXISTS"


class Cancelled(NeriteError):
    """The caller went away or asked to stop."""

    code = "CANCELLED"


class Unauthenticated(NeriteError):
    """An API key is needed, and none that is known was shown."""

    code = "UNAUTHENTICATED"


class PermissionDenied(NeriteError):
    """Whoever asks is known, and may not ask for this."""

    code = "PERMISSION_DENIED"


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing wrong with a configuration, told so that it can be mended.

    `message` is Triton's text where Triton has one; `file` and `line` say where it stands,
    `key` is the dotted path (`input[0].dims`), `value` what was found, `fix` what to write instead.
    """

    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    key: str = ""
    value: str = ""
    fix: str = ""
    code: str = "INVALID_ARG"
    """Triton's code for this cause; INTERNAL where a file that is named is not there."""

    def __str__(self) -> str:
        place = ":".join(str(p) for p in (self.file, self.line, self.column) if p)
        text = f"{place}: {self.message}" if place else self.message
        if self.key:
            found = f" = {self.value}" if self.value else ""
            text += f" [{self.key}{found}]"
        return f"{text} (fix: {self.fix})" if self.fix else text


class ConfigError(InvalidArgument):
    """A configuration is wrong; `problems` lists each cause, the text is the first of them."""

    def __init__(self, *problems: ConfigProblem) -> None:
        super().__init__(problems[0].message if problems else "invalid configuration")
        self.problems = problems
