# SPDX-License-Identifier: Apache-2.0
"""Load over HTTP/1.1 with wrk: the script it is given, its command line, and its account.

The script only sets a fixed request and prints figures at the end: without a `request` or
`response` function wrk runs no Lua per request, so it stays cheaper than the servers.
"""

from __future__ import annotations

import re
from pathlib import Path

from benches.load.payload import HttpMessage
from benches.load.sample import Load

_ACCOUNT = "wrk-account"
_DONE = f"""
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    "{_ACCOUNT} requests=%d duration_us=%d bytes=%d failed=%d p50_us=%.1f p99_us=%.1f\\n",
    summary.requests, summary.duration, summary.bytes,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


def script(message: HttpMessage) -> str:
    """A Lua script that posts this message and prints one line that `parse` reads."""
    lines = ['wrk.method = "POST"', f'wrk.body = "{_escaped(message.body)}"']
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in message.headers.items()]
    return "\n".join(lines) + "\n" + _DONE


def command(url: str, script_path: Path, connections: int, seconds: int) -> list[str]:
    """Run wrk on one thread; more would only fight for the one core that it has."""
    return [
        "wrk",
        *("--threads", "1"),
        *("--connections", str(connections)),
        *("--duration", f"{seconds}s"),
        *("--script", str(script_path)),
        url,
    ]


def parse(output: str) -> Load:
    """The account that the script printed."""
    line = re.search(rf"^{_ACCOUNT} (.*)$", output, re.MULTILINE)
    if line is None:
        raise ValueError(f"wrk printed no account: {output[-500:]!r}")
    figures = {key: float(value) for key, _, value in (x.partition("=") for x in line[1].split())}
    return Load(
        requests=int(figures["requests"]),
        seconds=figures["duration_us"] / 1e6,
        received_bytes=int(figures["bytes"]),
        failed=int(figures["failed"]),
        p50_us=figures["p50_us"],
        p99_us=figures["p99_us"],
    )


def _escaped(body: bytes) -> str:
    """As a Lua 5.1 string: three digits each, so that a digit may follow."""
    return "".join(f"\\{byte:03d}" for byte in body)
