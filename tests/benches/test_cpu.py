# SPDX-License-Identifier: Apache-2.0
"""CPU time and memory as /proc tells them."""

from __future__ import annotations

import os

import pytest
from benches.load import cpu
from benches.load.cpu import ProcessStat

# utime 250, stime 50, cutime 7, cstime 3.
STAT = "{pid} ({command}) S {parent} 4242 4242 0 -1 4194560 900 0 0 0 250 50 7 3 20 0 9 0 33 0 0"


@pytest.mark.parametrize("command", ["nginx", "tokio worker", "a) R 1 (b", "((", ") S 9"])
def test_stat_is_read_whatever_the_command_is_called(command: str) -> None:
    line = STAT.format(pid=4242, command=command, parent=17)
    assert cpu.parse_stat(line) == ProcessStat(pid=4242, parent=17, ticks=310)


def test_descendants_are_found_at_any_depth_and_no_others() -> None:
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 13: 10, 20: 1, 21: 20}
    stats = [ProcessStat(pid, parent, 0) for pid, parent in reversed(parents.items())]
    assert sorted(stat.pid for stat in cpu.descendants(stats, 10)) == [10, 11, 12, 13]


def test_descendants_of_a_process_that_has_ended_are_none() -> None:
    assert cpu.descendants([ProcessStat(1, 0, 5)], 99) == []


def test_memory_is_the_proportional_share_in_bytes() -> None:
    rollup = "55d0-7ffc ---p 0 00:00 0 [rollup]\nRss:   9000 kB\nPss:    4321 kB\nPss_Anon: 9 kB\n"
    assert cpu.parse_memory(rollup) == 4321 * 1024


def test_memory_without_a_share_is_refused() -> None:
    with pytest.raises(ValueError, match="Pss"):
        cpu.parse_memory("Rss: 9000 kB\n")


def test_this_process_has_used_time_and_memory() -> None:
    before = cpu.cpu_seconds(os.getpid())
    while cpu.cpu_seconds(os.getpid()) == before:
        pass  # spins until a tick has passed, which is what is measured
    assert cpu.memory_bytes(os.getpid()) > 2**20
