"""A client that sends its body byte by byte."""

from __future__ import annotations

import contextlib
import socket


def drip(raw: socket.socket) -> tuple[int, bytes]:
    """Sends a byte every fifth of a second until it is answered; how many, and the answer."""
    raw.settimeout(0.2)
    sent, told = 0, b""
    while not told:
        raw.sendall(b" ")
        sent += 1
        assert sent < 50
        with contextlib.suppress(TimeoutError):
            told = raw.recv(65536)
    return sent, told
