# SPDX-License-Identifier: Apache-2.0
"""Play the steps of a case against a server and say, step by step, what came."""

from __future__ import annotations

import base64
import re
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import shared_memory
from typing import Any

from tests.conformance import comparison, grpc_calls, http_calls
from tests.conformance.metrics_page import families, metrics_difference
from tests.conformance.servers import Running
from tests.conformance.vectors import Case
from tests.model_folders import write_model

METRICS = {"method": "GET", "path": "/metrics", "port": "metrics"}


class Play:
    """One run of a case."""

    def __init__(self, running: Running) -> None:
        self._running = running
        server = running.server
        self._urls = {"http": server.http_url, "metrics": server.metrics_url}
        self._grpc = server.grpc_url
        self._shared: dict[str, shared_memory.SharedMemory] = {}

    def differences(self, case: Case) -> list[str]:
        """What differs from the recording, a line for each step that does."""
        try:
            told = [self._step(step) for step in case.steps]
        finally:
            for region in self._shared.values():
                region.close()
                region.unlink()
        return [f"step {number}: {text}" for number, text in enumerate(told) if text]

    def answers(self, case: Case) -> list[dict[str, Any]]:
        """What came to each request or call of a case, in order."""
        told: list[dict[str, Any]] = []
        for step in case.steps:
            if "parallel" in step:
                told += self._ask_together(step)
            elif any(word in step for word in ("request", "rpc", "metrics")):
                told.append(self._ask(step))
            elif "poll" in step:
                self._poll(step)
            else:
                self._act(step)
        return told

    def _ask(self, step: Mapping[str, Any]) -> dict[str, Any]:
        if "metrics" in step:
            return http_calls.ask(self._urls, METRICS)
        if "rpc" in step:
            return self._normal(grpc_calls.call(self._grpc, step))
        return self._normal(http_calls.ask(self._urls, step["request"]))

    def _step(self, step: Mapping[str, Any]) -> str:
        if "rpc" in step:
            return comparison.grpc_difference(grpc_calls.expected_messages(step), self._ask(step))
        if "request" in step:
            return comparison.http_difference(step["expect"], self._ask(step))
        if "metrics" in step:
            return metrics_difference(step, families(self._ask(step)["body"]))
        if "poll" in step:
            return self._poll(step)
        if "parallel" in step:
            return self._parallel(step)
        self._act(step)
        return ""

    def _poll(self, step: Mapping[str, Any]) -> str:
        end = time.monotonic() + 8
        answer = self._ask({"request": step["poll"]})
        while step["has"] not in answer.get("body", "") and time.monotonic() < end:
            time.sleep(0.02)
            answer = self._ask({"request": step["poll"]})
        return comparison.http_difference(step["expect"], answer) if "expect" in step else ""

    def _parallel(self, step: Mapping[str, Any]) -> str:
        wanted = step["expect"]["parallel"]
        pairs = zip(wanted, self._ask_together(step), strict=True)
        return "; ".join(filter(None, (comparison.http_difference(*pair) for pair in pairs)))

    def _ask_together(self, step: Mapping[str, Any]) -> list[dict[str, Any]]:
        with ThreadPoolExecutor(len(step["parallel"])) as pool:
            asked = []
            for each in step["parallel"]:
                asked.append(pool.submit(self._ask, each))
                time.sleep(step.get("stagger_ms", 0) / 1000)
            return [each.result() for each in asked]

    def _act(self, step: Mapping[str, Any]) -> None:
        repository = self._running.repository
        if "sleep_ms" in step:
            time.sleep(step["sleep_ms"] / 1000)
        elif "write_model" in step:
            write_model(repository / step["write_model"], step["files"])
        elif "remove_model" in step:
            shutil.rmtree(repository / step["remove_model"])
        elif "shm_create" in step:
            wanted = step["shm_create"]
            data = base64.b64decode(wanted.get("b64", ""))
            name = wanted["key"].lstrip("/")
            region = shared_memory.SharedMemory(name, create=True, size=wanted["size"])
            region.buf[: len(data)] = data
            self._shared[wanted["key"]] = region
        elif "shm_read" in step:
            region = self._shared[step["shm_read"]]
            wanted_bytes = base64.b64decode(step["expect"]["shm_b64"])
            assert bytes(region.buf[: len(wanted_bytes)]) == wanted_bytes
        elif "shm_remove" in step:
            region = self._shared.pop(step["shm_remove"])
            region.close()
            region.unlink()
        else:
            raise AssertionError(f"unknown step {step}")

    def _normal(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Paths of this run as the recordings write them."""
        repository = str(self._running.repository)
        folder = str(self._running.folder)

        def walk(value: Any) -> Any:
            if isinstance(value, str):
                value = value.replace(repository, "{repo}").replace(folder, "{dir}")
                value = value.replace("/opt/tritonserver/backends", "{backends}")
                return re.sub(r" Available backends: [^\"]*", "", value)
            if isinstance(value, dict):
                return {key: walk(each) for key, each in value.items()}
            return [walk(each) for each in value] if isinstance(value, list) else value

        return walk(answer)
