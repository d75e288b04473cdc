# SPDX-License-Identifier: Apache-2.0
"""The demo's second story: when does somebody speak?

Silero VAD hears frames of 32 ms, each with the last 4 ms of the one before. Half a second goes with
each request, as it would from a microphone, and the state in each answer goes with the next one.
"""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nerite.cli.client import Client, Tensor

RATE = 16000
CHUNK = 512
CONTEXT = 64
FRAMES = 16


def read_speech(path: Path) -> NDArray[np.float32]:
    """The samples of a 16 kHz mono WAV file, from -1 to 1."""
    with wave.open(str(path), "rb") as recording:
        frames = recording.readframes(recording.getnframes())
    return (np.frombuffer(frames, dtype="<i2") / 32768).astype(np.float32)


def noise_like(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """White noise as long and as loud as a recording: what must not be taken for speech."""
    loudness = float(np.sqrt(np.mean(samples**2)))
    values = np.random.default_rng(0).standard_normal(len(samples)) * loudness
    return values.astype(np.float32)


def frames_of(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """One row for each frame: the end of the frame before it, then its own samples."""
    padded = np.pad(samples, (CONTEXT, 0))
    windows = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + CHUNK)
    return np.ascontiguousarray(windows[::CHUNK])


def listen(client: Client, samples: NDArray[np.float32]) -> NDArray[Any]:
    """The probability of speech in each 32 ms of a recording."""
    silence = Tensor("FP32", np.zeros((1, 1, 128), dtype=np.float32))
    state = {"h": silence, "c": silence}
    frames = frames_of(samples)
    heard = []
    for begin in range(0, len(frames), FRAMES):
        block = Tensor("FP32", frames[begin : begin + FRAMES])
        outputs = client.infer("silero_vad", {"input": block, **state}).outputs
        state = {"h": outputs["hn"], "c": outputs["cn"]}
        heard.append(outputs["speech_probs"].array)
    return np.concatenate(heard)


def spoken(probabilities: NDArray[Any], threshold: float = 0.5) -> list[tuple[float, float]]:
    """Begin and end of each stretch of speech, in seconds."""
    speech = np.concatenate(([False], probabilities > threshold, [False]))
    edges = np.flatnonzero(speech[1:] != speech[:-1])
    seconds = [float(edge) * CHUNK / RATE for edge in edges]
    return list(zip(seconds[::2], seconds[1::2], strict=True))


def drawn(probabilities: NDArray[Any], width: int = 80) -> str:
    """The probabilities as one line of blocks, the louder the surer."""
    columns = np.array_split(probabilities, min(width, len(probabilities)))
    return "".join(" .:-=+*#%@"[min(9, int(column.max() * 10))] for column in columns)
