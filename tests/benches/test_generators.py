# SPDX-License-Identifier: Apache-2.0
"""What wrk and h2load print, as this bench reads it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from benches.load import h2load, wrk
from benches.load.payload import HttpMessage
from benches.load.sample import Load, Sample

WRK_OUTPUT = """\
Running 1s test @ http://127.0.0.1:18000/v2/models/identity/infer
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    61.51us  142.00us   4.10ms   99.01%
    Req/Sec   147.66k     3.80k  151.02k    90.91%
  161537 requests in 1.10s, 60.08MB read
Requests/sec: 146896.52
Transfer/sec:     54.64MB
wrk-account requests=161537 duration_us=1099671 bytes=62999430 failed=0 p50_us=52.0 p99_us=88.0
"""

H2LOAD_OUTPUT = """\
starting benchmark...
spawning thread #0: 8 total client(s). Timing-based test with 0s of warm-up time and 2s of main \
duration for measurements.
Main benchmark duration is over for thread #0. Stopping all clients.
Stopped all clients for thread #0

finished in 2.00s, 85323.50 req/s, 16.76MB/s
requests: 170647 total, 170711 started, 170647 done, 170647 succeeded, 0 failed, 0 errored, \
0 timeout
status codes: 170648 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 33.53MB (35153732) total, 7.97MB (8361752) headers (space savings 50.51%), \
17.09MB (17917935) data
                     min         max         mean         sd        +/- sd
time for request:       52us      4.83ms       746us       200us    93.87%
"""


def log_of(durations: list[int]) -> str:
    """h2load's log file with these durations."""
    return "".join(f"1764000000000000\t200\t{duration}\n" for duration in durations)


def test_wrk_account_is_read_among_its_other_output() -> None:
    expected = Load(161537, 1.099671, 62999430, 0, 52.0, 88.0)
    assert wrk.parse(WRK_OUTPUT) == expected


def test_wrk_output_without_account_is_refused() -> None:
    with pytest.raises(ValueError, match="no account"):
        wrk.parse(WRK_OUTPUT.partition("wrk-account")[0])


def test_wrk_script_holds_the_body_byte_for_byte() -> None:
    # A digit after a low byte, quotes, a newline and a backslash are what escapes go wrong on.
    body = b'\x00\x011"\n\\\xff{"a":1}' + bytes(range(256))
    script = wrk.script(HttpMessage({"Content-Type": "x/y"}, body))
    quoted = re.search(r'^wrk\.body = "(.*)"$', script, re.MULTILINE)
    assert quoted is not None
    assert bytes(int(digits) for digits in re.findall(r"\\(\d{3})", quoted[1])) == body
    assert re.sub(r"\\\d{3}", "", quoted[1]) == ""
    assert 'wrk.headers["Content-Type"] = "x/y"' in script


def test_wrk_script_runs_no_lua_per_request() -> None:
    script = wrk.script(HttpMessage({}, b""))
    assert re.findall(r"function (\w+)", script) == ["done"]


def test_h2load_account_is_read_from_output_and_log() -> None:
    log = log_of([700] * 98 + [9000, 9000])
    expected = Load(170647, 2.0, 17917935, 0, 700.0, 9000.0)
    assert h2load.parse(H2LOAD_OUTPUT, log) == expected


@pytest.mark.parametrize(
    ("before", "after", "failed"),
    [
        ("0 failed, 0 errored", "3 failed, 2 errored", 5),
        ("0 timeout", "4 timeout", 4),
        ("0 3xx, 0 4xx, 0 5xx", "1 3xx, 2 4xx, 4 5xx", 7),
    ],
)
def test_h2load_counts_whatever_is_not_a_success(before: str, after: str, failed: int) -> None:
    output = H2LOAD_OUTPUT.replace(before, after)
    assert output != H2LOAD_OUTPUT
    assert h2load.parse(output, log_of([1])).failed == failed


@pytest.mark.parametrize(
    ("text", "seconds"), [("2.50s", 2.5), ("998.23ms", 0.99823), ("500us", 0.0005)]
)
def test_h2load_time_is_read_in_each_unit(text: str, seconds: float) -> None:
    output = H2LOAD_OUTPUT.replace("finished in 2.00s", f"finished in {text}")
    assert h2load.parse(output, log_of([1])).seconds == pytest.approx(seconds)


def test_h2load_output_that_ends_early_is_refused() -> None:
    with pytest.raises(ValueError, match="status codes"):
        h2load.parse(H2LOAD_OUTPUT.partition("status codes")[0], log_of([1]))


def test_h2load_log_without_requests_is_refused() -> None:
    with pytest.raises(ValueError, match="not one request"):
        h2load.percentiles("")


@pytest.mark.parametrize(
    ("concurrency", "clients", "streams"), [(1, "1", "1"), (8, "1", "8"), (64, "8", "8")]
)
def test_h2load_opens_eight_streams_a_connection(
    concurrency: int, clients: str, streams: str
) -> None:
    command = h2load.command("http://x", Path("frame"), Path("log"), concurrency, 3)
    assert command[command.index("--clients") + 1] == clients
    assert command[command.index("--max-concurrent-streams") + 1] == streams


def test_sample_divides_cpu_by_completed_requests() -> None:
    sample = Sample(Load(200_000, 2.0, 0, 0, 0.0, 0.0), cpu_seconds=1.5)
    assert sample.cpu_us == pytest.approx(7.5)
    assert sample.rate == pytest.approx(100_000)
