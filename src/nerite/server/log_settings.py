# SPDX-License-Identifier: Apache-2.0
"""The log's settings while the server runs: read and set over both protocols (`spec` 7.4).

`logs` writes by them; the texts of refusals are Triton's. Nothing is changed by a request of which
a part is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from nerite.errors import InvalidArgument, Unsupported
from nerite.server.envelope import settings_of
from nerite.server.options import LOG_FORMATS, ServerOptions


@dataclass(frozen=True, slots=True)
class LogState:
    """What is written, and how; the order and names of the protocol."""

    log_file: str = ""
    log_info: bool = True
    log_warning: bool = True
    log_error: bool = True
    log_verbose_level: int = 0
    log_format: str = "default"


#: What a value of the wrong type is told, by transport and type.
_EXPECTED: Mapping[str, Mapping[type, str]] = {
    "http": {
        bool: "attempt to access JSON non-boolean as boolean",
        int: "attempt to access JSON non-unsigned-integer as unsigned-integer",
        str: "attempt to access JSON non-string as string",
    },
    "grpc": {
        bool: "expect boolean for '{name}'",
        int: "expect int32 for '{name}'",
        str: "expect string for '{name}'",
    },
}
_BAD_FORMAT = {
    "http": "invalid argument for --log_format, got: {value}",
    "grpc": "invalid argument for log_format, got: {value}",
}


class LogSettings:
    """The settings of one server's log; whoever writes it asks for `state`."""

    def __init__(self, options: ServerOptions) -> None:
        self._lock = threading.Lock()
        self.state = LogState(
            options.log_file,
            options.log_info,
            options.log_warning,
            options.log_error,
            options.log_verbose,
            options.log_format,
        )
        self.changed: Callable[[LogState], None] = lambda state: None
        """Told the state whenever it was set."""

    def answer(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The verb `log_settings`: sets what is given and tells everything."""
        transport, given = settings_of(payload)
        with self._lock:
            state = self.state
            for name, value in (given or {}).items():
                if value is not None and name in LogState.__dataclass_fields__:
                    state = replace(state, **{name: _checked(name, value, transport)})
            if state != self.state:
                self.state = state
                self.changed(state)
        return asdict(state)


def _checked(name: str, value: Any, transport: str) -> Any:
    wanted = type(getattr(LogState(), name))
    # A bool is an int to Python, a level it is not.
    right = type(value) is wanted and (wanted is not int or 0 <= value < 2**32)
    if not right:
        raise InvalidArgument(_EXPECTED[transport][wanted].format(name=name))
    if name == "log_file":
        raise Unsupported("log file location can not be updated through network protocol")
    if name == "log_format" and value not in LOG_FORMATS:
        # Triton answers 503 over HTTP, as if the client might try again (`spec` 10.1, 16).
        raise InvalidArgument(_BAD_FORMAT[transport].format(value=value))
    return value
