# SPDX-License-Identifier: Apache-2.0
"""The command `nerite`: its sub-commands and its exit codes.

0: done. 1: wrong flags, a problem found, or an error, told in one line on standard error. Triton
exits with 1 on a wrong flag, not with the 2 that Unix tools use, and scripts rely on it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from nerite.cli import kserve_arguments
from nerite.cli.plain_words import read_plain
from nerite.errors import ConfigError, NeriteError


def main(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code."""
    try:
        return _run(_understood(arguments))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return 1 if code == 2 else code
    except ConfigError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return 1
    except NeriteError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `nerite models | head`: the reader has seen enough
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:  # before the server waits for signals
        return 130


def _run(words: list[str]) -> int:
    """Plain words of `serve` lead there at once, all others to typer, which takes its time."""
    plain = read_plain(words[1:]) if words[:1] == ["serve"] else None
    if plain is not None:
        from nerite.cli.serve import serve

        return serve(*plain)
    from nerite.cli.commands import command_line

    command_line(words[0] if words else "")(words, prog_name="nerite")
    return 0


def _understood(arguments: Sequence[str]) -> list[str]:
    """The arguments; those of KServe's servers as Nerite's, before typer looks at them."""
    command, words = list(arguments[:1]), list(arguments[1:])
    if command != ["serve"] or not kserve_arguments.speaks_kserve(words):
        return [*command, *words]
    translated = kserve_arguments.translate(words)
    for warning in translated.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return [*command, *translated.words]


def run() -> None:
    """What the installed script `nerite` calls."""
    sys.exit(main(sys.argv[1:]))
