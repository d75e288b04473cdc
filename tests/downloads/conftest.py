# SPDX-License-Identifier: Apache-2.0
"""An S3 server of this machine (moto), with a bucket in it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@dataclass
class Bucket:
    name: str
    url: str
    client: Any

    @property
    def variables(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": self.url, **CREDENTIALS}

    def put(self, **objects: bytes) -> None:
        """Objects by key, in which `__` is a slash and a trailing one a folder."""
        for key, body in objects.items():
            self.client.put_object(Bucket=self.name, Key=key.replace("__", "/"), Body=body)


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_url: str) -> Bucket:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=s3_url,
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    name = f"models{uuid.uuid4().hex[:12]}"  # moto takes escaped names as they are
    client.create_bucket(Bucket=name)
    return Bucket(name, s3_url, client)
