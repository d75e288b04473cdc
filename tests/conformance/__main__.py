# SPDX-License-Identifier: Apache-2.0
"""Print the share of recorded exchanges that agree, per theme: `make vectors`.

With names of themes, cases or profiles behind it only those are played.
"""

from __future__ import annotations

import sys
from collections import Counter

from tests.conformance.outcomes import AGREES, BETTER, DISAGREES, WORDS, Servers
from tests.conformance.vectors import cases


def main(chosen: set[str]) -> int:
    """Plays the cases and prints the table; 1 if one disagrees."""
    servers = Servers()
    table: dict[str, Counter[str]] = {}
    for case in cases():
        if chosen and not chosen & {case.theme, case.id, case.profile}:
            continue
        word, told = servers.outcome(case)
        table.setdefault(f"{case.kind}/{case.theme}", Counter())[word] += 1
        if word == DISAGREES:
            print(f"{case.theme} {case.id}" + (f" (defect: {case.defect})" if case.defect else ""))
            print("".join(f"    {line}\n" for line in told), end="")
    servers.stop()
    print(f"{'THEME':28}" + "".join(f"{word.upper():>11}" for word in WORDS) + f"{'SHARE':>8}")
    for theme, counts in sorted(table.items()):
        print(_row(theme, counts))
    total = sum(table.values(), Counter())
    print(_row("all", total))
    return int(total[DISAGREES] > 0)


def _row(name: str, counts: Counter[str]) -> str:
    share = (counts[AGREES] + counts[BETTER]) / max(1, counts.total())
    return f"{name:28}" + "".join(f"{counts[word] or '':>11}" for word in WORDS) + f"{share:>8.0%}"


if __name__ == "__main__":
    sys.exit(main(set(sys.argv[1:])))
