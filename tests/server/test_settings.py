"""The log's settings while a server runs, and its access log."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from nerite.errors import InvalidArgument, Unsupported
from nerite.server.log_settings import LogSettings
from nerite.server.logs import formatter, log_of
from nerite.server.options import ServerOptions
from nerite.testing import serve

IDENTITY = """backend: "identity"
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""
BODY = b'{"id":"q 7","inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1],"data":[1]}]}'


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "models/m/1").mkdir(parents=True)
    (tmp_path / "models/m/config.pbtxt").write_text(IDENTITY)
    return tmp_path / "models"


def ask(settings: LogSettings, body: str, transport: str = "http") -> dict[str, Any]:
    return settings.answer({"transport": transport, "body": body})


def test_a_running_log_changes_its_levels_and_its_format(tmp_path: Path) -> None:
    file = tmp_path / "log"
    settings = LogSettings(ServerOptions(log_file=str(file)))
    log = logging.getLogger("nerite.test")
    with log_of(settings):
        log.debug("unseen")
        ask(settings, '{"log_verbose_level":1,"log_format":"json"}')
        log.debug("seen", extra={"request_id": "r1", "trace_id": "t1"})
        ask(settings, '{"log_verbose_level":0,"log_info":false,"log_format":"ISO8601"}')
        log.info("unseen")
        log.warning("seen too")
    first, second = file.read_text().splitlines()
    line = json.loads(first)
    assert (line["message"], line["request_id"], line["trace_id"]) == ("seen", "r1", "t1")
    assert re.match(r"\d{4}-\d\d-\d\dT.*Z W .*\"seen too\"$", second)
    assert "request_id" not in json.loads(
        formatter("json").format(logging.LogRecord("n", 20, "f", 1, "x", None, None))
    )


@pytest.mark.parametrize(
    ("payload", "kind", "text"),
    [
        ({"body": ""}, InvalidArgument, "The document is empty"),
        ({"body": "["}, InvalidArgument, "failed to parse the request JSON buffer"),
        ({"body": "[]"}, InvalidArgument, "an object is expected"),
        ({"body": '{"log_info":1}'}, InvalidArgument, "non-boolean as boolean"),
        ({"body": '{"log_verbose_level":true}'}, InvalidArgument, "non-unsigned-integer"),
        ({"body": '{"log_verbose_level":-1}'}, InvalidArgument, "non-unsigned-integer"),
        ({"body": '{"log_format":"zz"}'}, InvalidArgument, "argument for --log_format, got: zz"),
        ({"body": '{"log_file":"x"}'}, Unsupported, "log file location can not be updated"),
        (
            {"transport": "grpc", "settings": {"log_format": "zz"}},
            InvalidArgument,
            "invalid argument for log_format, got: zz",
        ),
        (
            {"transport": "grpc", "settings": {"log_info": "x"}},
            InvalidArgument,
            "expect boolean for 'log_info'",
        ),
    ],
)
def test_what_is_refused_changes_nothing(
    payload: dict[str, Any], kind: type[Exception], text: str
) -> None:
    settings = LogSettings(ServerOptions())
    before = settings.answer({})
    if "settings" in payload:
        payload["settings"] = {"log_error": False, **payload["settings"]}
    with pytest.raises(kind, match=text):
        settings.answer(payload)
    assert settings.answer({}) == before


def test_both_protocols_set_the_same_log(repository: Path) -> None:
    with serve(repository) as server:
        url = f"{server.http_url}/v2/logging"
        told = json.loads(urlopen(Request(url, b'{"log_info":false}')).read())
        assert told["log_info"] is False
        client = grpcclient.InferenceServerClient(server.grpc_url)
        told = client.update_log_settings({"log_verbose_level": 2}, as_json=True)["settings"]
        assert told["log_verbose_level"] == {"uint32_param": 2}
        assert told["log_format"] == {"string_param": "default"}
        with pytest.raises(InferenceServerException, match="can not be updated"):
            client.update_log_settings({"log_file": "x"})
        client.update_trace_settings("m", {"trace_rate": "7"})
        read = client.get_trace_settings("m", as_json=True)["settings"]
        assert read["trace_rate"] == {"value": ["7"]}
        client.close()
        assert json.loads(urlopen(url).read())["log_verbose_level"] == 2
        with pytest.raises(HTTPError) as caught:
            urlopen(Request(url, b""))
        assert caught.value.code == 400
        caught.value.close()


def test_the_access_log_has_a_line_for_each_answer(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    with serve(repository, access_log=str(file)) as server:
        trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
        urlopen(Request(f"{server.http_url}/v2/models/m/infer", BODY, trace)).read()
        with pytest.raises(HTTPError) as caught:
            urlopen(f"{server.http_url}/v2/models/none")
        caught.value.close()
        client = grpcclient.InferenceServerClient(server.grpc_url)
        with pytest.raises(InferenceServerException):
            client.get_model_metadata("none")
        client.close()
    first, second, third = file.read_text().splitlines()
    assert re.match(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z 127\.0\.0\.1:\d+ http "
        r'"POST /v2/models/m/infer" 200 \d+ \d+\.\d{6} "q 7" a{32}$',
        first,
    )
    assert re.search(r'"GET /v2/models/none" 404 \d+ \S+ - -$', second)
    assert re.search(r'grpc "POST /inference\.\S+/ModelMetadata" 200/5 0 \S+ - -$', third)


def test_the_access_log_is_json_where_the_log_is(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    with serve(repository, access_log=str(file), log_format="json") as server:
        urlopen(Request(f"{server.http_url}/v2/models/m/infer", BODY)).read()
    line = json.loads(file.read_text())
    assert (line["status"], line["request_id"], line["protocol"]) == (200, "q 7", "http")
    assert 0 < line["seconds"] < 20


def test_an_access_log_that_cannot_be_written_ends_the_start(
    repository: Path, tmp_path: Path
) -> None:
    with (
        pytest.raises(InvalidArgument, match="cannot be written"),
        serve(repository, access_log=str(tmp_path / "no/where")),
    ):
        pass
