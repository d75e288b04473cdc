# SPDX-License-Identifier: Apache-2.0
"""Refusals by the server itself, whatever the request says."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from nerite.testing import serve


def refusal(url: str, body: bytes) -> tuple[int, str]:
    with pytest.raises(HTTPError) as told:
        urlopen(url, body, timeout=10)
    return told.value.code, json.load(told.value)["error"]


def test_a_body_over_the_limit_says_which_flag_raises_it(tmp_path: Path) -> None:
    (tmp_path / "m/1").mkdir(parents=True)
    (tmp_path / "m/config.pbtxt").write_text('backend: "identity"')
    with serve(tmp_path, max_request_bytes=100) as server:
        status, text = refusal(f"{server.http_url}/v2/models/m/infer", b" " * 101)
    assert status == 413
    assert (
        "exceeds the limit of 100 bytes. Use --http-max-input-size to increase the limit." in text
    )


def test_a_version_that_takes_no_more_requests_says_so(tmp_path: Path) -> None:
    """As between the order to stop and the end: what waits is answered, what comes is refused."""
    (tmp_path / "m/1").mkdir(parents=True)
    (tmp_path / "m/config.pbtxt").write_text('backend: "identity"')
    with serve(tmp_path) as server:
        assert server._lifecycle is not None
        live = server._lifecycle.model("m")
        assert live is not None
        live.versions[0].core.close()
        status, text = refusal(f"{server.http_url}/v2/models/m/infer", b'{"inputs":[]}')
    assert status == 503
    assert text.endswith(
        "Server is stopping, scheduler for model has stopped accepting new inference requests"
    )
