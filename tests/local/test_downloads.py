"""Models that are elsewhere: fetched by the daemon, with the credentials that were applied."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.downloads.conftest import Bucket, bucket, s3_url
from tests.local.daemons import Up, condition
from tests.local.manifests import infer, isvc, url_of, write
from tests.local.test_components import cluster_of

from nerite.kserve.documents import Object
from nerite.local.credentials import account_variables
from nerite.local.variables import Unknown

__all__ = ["bucket", "s3_url"]
pytestmark = pytest.mark.timeout(180)


@dataclass
class Web:
    """A server of one file that stops in the middle until it may go on."""

    content: bytes
    #: Zeros follow the content for as long as somebody takes them.
    endless: bool = False
    port: int = 0
    may_go_on: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    tokens: list[str | None] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/models/model.onnx?signature=secret"


class _Handler(BaseHTTPRequestHandler):
    web: Web

    def do_GET(self) -> None:
        web = self.web
        web.tokens.append(self.headers["X-Token"])
        if self.headers["X-Token"] != "right":
            self.send_error(403)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        length = 1 << 50 if web.endless else len(web.content)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        half = len(web.content) // 2
        self.wfile.write(web.content[:half])
        self.wfile.flush()
        web.may_go_on.wait(60)
        try:
            self.wfile.write(web.content[half:])
            while web.endless:
                self.wfile.write(bytes(1 << 16))
        except ConnectionError:
            web.gone.set()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def web(content: bytes, *, endless: bool = False) -> Iterator[Web]:
    made = Web(content, endless)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"web": made}))
    made.port = server.server_address[1]
    thread = threading.Thread(target=lambda: server.serve_forever(0.01))
    thread.start()
    try:
        yield made
    finally:
        made.may_go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


def secret(name: str, entries: dict[str, str], **annotations: str) -> Object:
    metadata = {"name": name, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": entries}


def account(name: str, *secrets: str) -> Object:
    named = [{"name": each} for each in secrets]
    head = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
    return {**head, "secrets": named}


def test_over_http_with_a_header_of_a_secret_and_progress(
    daemon: Up, tmp_path: Path, models: Path
) -> None:
    content = (models / "double/model.onnx").read_bytes()
    with web(content) as there:
        value = isvc("double", "onnx", there.url, predictor={"serviceAccountName": "fetcher"})
        token = {"https-host": "127.0.0.1", "headers": '{"X-Token": "wrong"}'}
        objects = [account("fetcher", "token"), value]
        file = tmp_path / "a.yaml"
        daemon.run("apply", "-f", write(file, secret("token", token), *objects))

        def told(text: str) -> None:
            daemon.watch("double", lambda v: text in condition(v, "PredictorReady")["message"])

        told("403")
        token["headers"] = '{"X-Token": "right"}'
        daemon.run("apply", "-f", write(file, secret("token", token), *objects))
        told(f"The model is being fetched: {len(content) // 2 / 1e3:.1f} kB of ")
        there.may_go_on.set()
        assert infer(url_of(daemon.ready("double")), "double", "x", [[1, 2]]) == [2, 4]
        assert (there.tokens[0], there.tokens[-1]) == ("wrong", "right")
    said = daemon.run("logs", "double", "-c", "storage-initializer").stdout
    assert "fetching http://127.0.0.1" in said
    assert f"model.onnx?...: {len(content) / 1e3:.1f} kB" in said
    assert "secret" not in said
    assert "try: curl" in daemon.run("logs", "double").stdout


def test_a_download_that_nobody_wants_any_more_ends(
    daemon: Up, tmp_path: Path, models: Path
) -> None:
    # A file that ends could be whole before the daemon has heard of the deletion.
    with web((models / "double/model.onnx").read_bytes(), endless=True) as there:
        value = isvc("double", "onnx", there.url, predictor={"serviceAccountName": "fetcher"})
        token = {"https-host": "127.0.0.1", "headers": '{"X-Token": "right"}'}
        file = write(
            tmp_path / "a.yaml", secret("token", token), account("fetcher", "token"), value
        )
        daemon.run("apply", "-f", file)
        daemon.watch(
            "double",
            lambda v: (
                " kB of " in condition(v, "PredictorReady")["message"]
                or " MB of " in condition(v, "PredictorReady")["message"]
            ),
        )
        assert daemon.run("delete", "isvc", "double").returncode == 0
        there.may_go_on.set()
        assert there.gone.wait(30)
    assert daemon.stop() == 0


def test_from_a_bucket_with_the_secret_of_its_account(
    daemon: Up, tmp_path: Path, models: Path, bucket: Bucket
) -> None:
    key = "some/double/1/model.onnx"
    body = (models / "double/model.onnx").read_bytes()
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=body)
    predictor = {"serviceAccountName": "reader"}
    value = isvc("double", "onnx", f"s3://{bucket.name}/some/double", predictor=predictor)
    keys = {"awsAccessKeyID": "key", "awsSecretAccessKey": "secret"}
    prefix = "serving.kserve.io/s3-"
    reached = {
        f"{prefix}endpoint": bucket.url.removeprefix("http://"),
        f"{prefix}usehttps": "0",
        f"{prefix}region": "us-east-1",
    }
    file = write(tmp_path / "a.yaml", secret("keys", keys, **reached), account("reader", "keys"))
    daemon.run("apply", "-f", file)
    daemon.run("apply", "-f", write(tmp_path / "b.yaml", value))
    assert infer(url_of(daemon.ready("double")), "double", "x", [[1, 2]]) == [2, 4]


def test_from_a_bucket_with_an_entry_of_the_storage_secret(
    daemon: Up, tmp_path: Path, models: Path, bucket: Bucket
) -> None:
    body = (models / "double/model.onnx").read_bytes()
    bucket.client.put_object(Bucket=bucket.name, Key="double/model.onnx", Body=body)
    entry = (
        '{"type": "s3", "access_key_id": "key", "secret_access_key": "secret", '
        f'"endpoint_url": "{bucket.url}", "region": "us-east-1", "bucket": "{bucket.name}"}}'
    )
    value = isvc("double", "onnx", "")
    model = value["spec"]["predictor"]["model"]
    del model["storageUri"]
    model["storage"] = {"key": "local", "path": "double"}
    file = write(tmp_path / "a.yaml", secret("storage-config", {"local": entry}), value)
    daemon.run("apply", "-f", file)
    assert infer(url_of(daemon.ready("double")), "double", "x", [[1, 2]]) == [2, 4]


SECRETS = """
apiVersion: v1
kind: Secret
metadata: {name: %s, namespace: lab}
stringData: {%s}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: lab, annotations: {serving.kserve.io/s3-verifyssl: "0"}}
secrets: [{name: keys}]
"""


@pytest.mark.parametrize(
    ("entries", "variables"),
    [
        ("gcloud-application-credentials.json: '{}'", {"GOOGLE_SERVICE_ACCOUNT_KEY": "{}"}),
        ("AZ_CLIENT_ID: me, other: x", {"AZ_CLIENT_ID": "me"}),
        ("AZURE_STORAGE_ACCESS_KEY: k", {"AZURE_STORAGE_ACCESS_KEY": "k"}),
        ("https-host: h, headers: '{}'", {"h-headers": "{}"}),
        ("AWS_ACCESS_KEY_ID: a, AWS_SECRET_ACCESS_KEY: b",
         {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}),
        ("something: else", {}),
    ],
)  # fmt: skip
def test_the_key_of_a_secret_decides_what_it_is(entries: str, variables: dict[str, str]) -> None:
    found = account_variables("reader", "lab", cluster_of(SECRETS % ("keys", entries)))
    assert found == {**variables, "S3_VERIFY_SSL": "0"}


def test_a_secret_that_is_missing_is_named() -> None:
    with pytest.raises(Unknown, match="names the secret 'keys' of namespace 'lab'; apply it first"):
        account_variables("reader", "lab", cluster_of(SECRETS % ("others", "a: b")))
    assert account_variables("default", "lab", cluster_of(SECRETS % ("keys", "a: b"))) == {}
