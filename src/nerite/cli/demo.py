# SPDX-License-Identifier: Apache-2.0
"""`nerite demo`: real networks, real files, and what the server did with them.

Serves the repository of `demo_models` inside this process on free ports, lets `demo_files` and
`demo_speech` ask it over HTTP, prints the answers and what the statistics endpoint says, and stops.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nerite.cli import screen
from nerite.cli.client import Client

if TYPE_CHECKING:
    from nerite.server.options import ServerOptions

STAGES = ("queue", "compute_input", "compute_infer", "compute_output")


def demo() -> None:
    """Serve three example models, send them real files and sound, and show what happened."""
    from nerite.cli import demo_models
    from nerite.server.server import Server

    begun = time.perf_counter()
    paint = screen.Paint.for_stdout()
    examples = demo_models.find_examples()
    repository = demo_models.prepare(examples, examples.parent / "build/demo-models")
    with Server(_options(repository)) as server:
        server.wait_ready(60)
        typer.echo(f"Serving {_shown(repository)} at {server.http_url}")
        for entry in server.states.index():
            typer.echo(f"  {paint.bold(entry.name)}: {server.signature(entry.name)}")
        _tell_files(server.http_url, examples, repository, paint)
        _tell_speech(server.http_url, examples, paint)
        with Client(server.http_url) as client:
            _tell_statistics(client, ("magika_features", "magika", "silero_vad"), paint)
    typer.echo(f"\nStopped after {time.perf_counter() - begun:.1f} seconds. Try next:")
    for words in _next_commands(repository):
        typer.echo(f"  {words}")


def _options(repository: Path) -> ServerOptions:
    """Free ports of this machine only, and a log that speaks up when something is wrong."""
    from nerite.server.options import ServerOptions

    return ServerOptions(
        repositories=(repository,),
        http_address="127.0.0.1",
        http_port=0,
        allow_grpc=False,
        allow_metrics=False,
        log_info=False,
        exit_on_error=True,
    )


def _tell_files(url: str, examples: Path, repository: Path, paint: screen.Paint) -> None:
    from nerite.cli import demo_files

    labels = (repository / "magika/labels.txt").read_text().split()
    files = demo_files.real_files(examples.parent)
    begun = time.perf_counter()
    verdicts = demo_files.ask(url, files, labels)
    elapsed = time.perf_counter() - begun
    typer.echo(f"\n{paint.bold('Magika')}: what are these {len(files)} files? All asked at once.")
    for verdict in verdicts:
        name = verdict.path.name
        name = name if len(name) <= 36 else f"{name[:33]}..."
        typer.echo(f"  {name:<36}  {verdict.label:<16} {verdict.score:4.0%}")
    requests = 2 * len(files)
    typer.echo(f"  {requests} requests in {elapsed:.2f} s: {requests / elapsed:.0f} per second")


def _tell_speech(url: str, examples: Path, paint: screen.Paint) -> None:
    from nerite.cli import demo_speech

    speech = demo_speech.read_speech(examples / "audio/speech.wav")
    recordings = {"speech.wav": speech, "white noise": demo_speech.noise_like(speech)}
    typer.echo(f"\n{paint.bold('Silero VAD')}: who speaks when? Half a second in each request.")
    for name, samples in recordings.items():
        begun = time.perf_counter()
        with Client(url) as client:
            heard = demo_speech.listen(client, samples)
        elapsed = time.perf_counter() - begun
        told = ", ".join(f"{begin:.1f}-{end:.1f} s" for begin, end in demo_speech.spoken(heard))
        typer.echo(f"  {name:<12}|{demo_speech.drawn(heard, 64)}|")
        typer.echo(
            f"  {'':<13}{'speech at ' + told if told else 'no speech'}; "
            f"{len(samples) / demo_speech.RATE:.1f} s of sound in {elapsed * 1000:.0f} ms"
        )


def _tell_statistics(client: Client, names: Sequence[str], paint: screen.Paint) -> None:
    """Batches and times, as the statistics endpoint counted them."""
    typer.echo(f"\n{paint.bold('What the server did')} (/v2/models/NAME/stats)")
    rows = [_spent(name, client.statistics(name)[0]) for name in names]
    header = ["MODEL", "REQUESTS", "BATCHES", "QUEUE", "INPUT", "COMPUTE", "OUTPUT"]
    typer.echo(screen.table(header, rows, paint))
    typer.echo("(mean milliseconds of a request)")
    for name in names[:2]:
        typer.echo(f"batch sizes of {name}: {batch_sizes(client.statistics(name)[0])}")


def _spent(name: str, statistics: Mapping[str, Any]) -> list[str]:
    counted = statistics["inference_stats"]
    means = (counted[stage]["ns"] / max(1, counted[stage]["count"]) / 1e6 for stage in STAGES)
    requests, batches = counted["success"]["count"], statistics["execution_count"]
    return [name, str(requests), str(batches), *(f"{mean:.2f}" for mean in means)]


def batch_sizes(statistics: Mapping[str, Any]) -> str:
    """`4 x 16, 1 x 3`: how many batches of which size, the largest first."""
    sizes = sorted(
        (
            (each["batch_size"], each["compute_infer"]["count"])
            for each in statistics["batch_stats"]
        ),
        reverse=True,
    )
    return ", ".join(f"{count} x {size}" for size, count in sizes)


def _next_commands(repository: Path) -> list[str]:
    program = Path(sys.argv[0])
    name = _shown(program.absolute()) if program.name == "nerite" else "python -m nerite"
    return [
        f"{name} serve {_shown(repository)}",
        f"{name} infer magika_features content=@README.md   (while that runs)",
        f"{name} check {_shown(repository)}",
    ]


def _shown(path: Path) -> str:
    """A path as short as it can be written here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
