# SPDX-License-Identifier: Apache-2.0
"""`python -m benches.load`: measure, print the table, write the JSON file.

Ends with status 1 if any row that was asked for could not be measured, or was wrong.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from benches.load import options, report
from benches.load.measure import measure


def main(arguments: list[str]) -> int:
    """Run the bench with these arguments and give the exit status."""
    chosen = options.parse(arguments)
    if importlib.util.find_spec("tritonclient") is None:
        print("tritonclient checks the answers; try `pip install 'tritonclient[grpc]'`")
        return 1
    # Asking for answers between runs must not take time from the server's core.
    os.sched_setaffinity(0, {chosen.client_core})
    with tempfile.TemporaryDirectory(prefix="nerite-load-") as folder:
        found = measure(chosen, Path(folder), lambda text: print(text, flush=True))
    print("\n" + report.table(found, chosen.cases))
    print("\nCPU us: least of the runs, per request, all processes of the server on one core.")
    if chosen.json is not None:
        report.write_json(chosen.json, report.document(found, chosen, arguments))
    return 1 if any(row.fault for row in found.rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
