# SPDX-License-Identifier: Apache-2.0
"""Bodies of settings, of the index and of graphs: answered, and never with our own fault."""

from __future__ import annotations

import http.client
from pathlib import Path

import pytest
from tests.fuzz.mutation import SECONDS, Hunt

from nerite.testing import serve

pytestmark = pytest.mark.timeout(60 + 3 * SECONDS)
SEEDS = {
    "/v2/logging": [
        '{"log_verbose_level": 1}', '{"log_info": true, "log_format": "ISO8601"}',
        '{"log_file": "x"}', '{"log_warning": false, "log_error": false}', "{}",
    ],
    "/v2/trace/setting": [
        '{"trace_rate": "1", "trace_count": "-1"}', '{"trace_level": ["TIMESTAMPS"]}',
        '{"trace_level": null, "log_frequency": "7"}', '{"trace_file": "x"}', "{}",
    ],
    "/v2/models/m/trace/setting": ['{"trace_rate": "2"}', '{"trace_level": ["OFF"]}', "{}"],
    "/v2/repository/index": ['{"ready": true}', "{}"],
    "/graphs/n/g": [
        '{"nodes": {"root": {"routerType": "Sequence", "steps": [{"serviceUrl": "/v1/m"}]}}}',
        '{"nodes": {"root": {"routerType": "Switch", "steps": [{"nodeName": "b", "condition": '
        '"a.#(b==1)"}]}, "b": {"routerType": "Splitter", "steps": [{"weight": 1}]}}}',
        '{"nodes": {"root": {"routerType": "Ensemble"}}, "timeoutSecs": 1, "stepTimeoutSecs": 0.5, '
        '"propagateHeaders": ["X-.*"]}',
    ],
}  # fmt: skip


@pytest.mark.parametrize("path", SEEDS)
def test_any_body_is_answered(path: str, tmp_path: Path) -> None:
    (tmp_path / "m/1").mkdir(parents=True)
    (tmp_path / "m/config.pbtxt").write_text('backend: "identity"')
    with serve(tmp_path) as server:
        connection = http.client.HTTPConnection(server.http_url.removeprefix("http://"), timeout=10)
        hunt = Hunt(SEEDS[path], path)
        for text in hunt.inputs():
            method = "PUT" if path.startswith("/graphs") else "POST"
            connection.request(method, path, text.encode())
            answer = connection.getresponse()
            body = answer.read().decode()
            assert answer.status in (200, 201, 400, 501), (
                f"{path} {answer.status} {body}: {text[:2000]!r}"
            )
            hunt.keep(text, f"{answer.status} {body}")
        connection.close()
        assert hunt.known
