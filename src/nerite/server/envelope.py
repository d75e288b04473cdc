# SPDX-License-Identifier: Apache-2.0
"""Take a request for settings out of the envelope in which the data plane hands it over.

The envelope says which transport asked and, over HTTP, holds the body as text, so that what is
wrong with it can be said in the words of that transport. `log_settings` and `trace_settings`
read what is inside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nerite.errors import InvalidArgument

_UNPARSABLE = "failed to parse the request JSON buffer: "


def settings_of(payload: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
    """The transport, and what is to be set; None if the settings are only read.

    Raises:
        InvalidArgument: The body is not a JSON object.
    """
    transport = str(payload.get("transport", "http"))
    body = payload.get("body")
    if body is None:
        return transport, payload.get("settings")
    return transport, parse_object(body)


def parse_object(text: str | bytes) -> dict[str, Any]:
    """The JSON object that a body is.

    Raises:
        InvalidArgument: It is none.
    """
    if not text.strip():
        raise InvalidArgument(_UNPARSABLE + "The document is empty. at 0")
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as why:
        raise InvalidArgument(f"{_UNPARSABLE}{why}") from None
    if not isinstance(parsed, dict):
        raise InvalidArgument(_UNPARSABLE + "an object is expected")
    return parsed
