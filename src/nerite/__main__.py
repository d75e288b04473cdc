# SPDX-License-Identifier: Apache-2.0
"""`python -m nerite` is the command line `nerite`."""

from __future__ import annotations

from nerite.cli.app import run

if __name__ == "__main__":
    run()
