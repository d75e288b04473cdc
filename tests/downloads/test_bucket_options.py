# SPDX-License-Identifier: Apache-2.0
"""The variables that KServe sets, and what obstore is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nerite.downloads.bucket_options import BucketOptions, bucket_options
from nerite.downloads.sources import parse
from nerite.errors import InvalidArgument, NotFound


def options(uri: str = "s3://bucket/m", **variables: str) -> BucketOptions:
    return bucket_options(parse(uri), variables)


@pytest.mark.parametrize(
    ("variables", "config"),
    [
        ({}, {"region": "us-east-1"}),
        ({"AWS_DEFAULT_REGION": "eu-1"}, {"region": "eu-1"}),
        ({"S3_ENDPOINT": "minio:9000", "S3_USE_HTTPS": "0"}, {"endpoint": "http://minio:9000"}),
        ({"S3_ENDPOINT": "minio:9000"}, {"endpoint": "https://minio:9000"}),
        (
            {"AWS_ENDPOINT_URL": "https://minio/", "S3_ENDPOINT": "other"},
            {"endpoint": "https://minio"},
        ),
        ({"awsAnonymousCredential": "true"}, {"skip_signature": True}),
        (
            {"S3_USER_VIRTUAL_BUCKET": "true", "AWS_ENDPOINT_URL": "https://s3.x"},
            {"endpoint": "https://bucket.s3.x", "virtual_hosted_style_request": True},
        ),
        (
            {"S3_USE_ACCELERATE": "1"},
            {
                "endpoint": "https://bucket.s3-accelerate.amazonaws.com",
                "virtual_hosted_style_request": True,
            },
        ),
        (
            {"AWS_ROLE_ARN": "arn", "AWS_WEB_IDENTITY_TOKEN_FILE": "/f"},
            {"role_arn": "arn", "web_identity_token_file": "/f"},
        ),
        (
            {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"},
            {"access_key_id": "a", "secret_access_key": "b", "session_token": "c"},
        ),
    ],
)
def test_s3(variables: dict[str, str], config: dict[str, Any]) -> None:
    assert options(**variables).config == {"region": "us-east-1", **config}


def test_how_the_connection_is_made() -> None:
    made = options(S3_VERIFY_SSL="0", S3_CONNECT_TIMEOUT="3", S3_MAX_ATTEMPTS="7")
    assert made.client == {
        "allow_http": False,
        "allow_invalid_certificates": True,
        "connect_timeout": "3s",
        "read_timeout": "30s",
        "timeout": "1h",
    }
    assert made.max_retries == 6
    assert options(AWS_ENDPOINT_URL="http://x").client["allow_http"]


def test_certificates_are_read_from_where_kserve_mounts_them(tmp_path: Path) -> None:
    (tmp_path / "cabundle.crt").write_bytes(b"pem")
    given = {"CA_BUNDLE_CONFIGMAP_NAME": "cm", "CA_BUNDLE_VOLUME_MOUNT_POINT": str(tmp_path)}
    assert options(**given).client["root_certificate"] == b"pem"
    with pytest.raises(NotFound, match="there is no certificate bundle at '/no/such'"):
        options(AWS_CA_BUNDLE="/no/such")


@pytest.mark.parametrize(
    ("variables", "config"),
    [
        ({}, {"skip_signature": True}),
        ({"AZURE_STORAGE_ACCESS_KEY": "k"}, {"account_key": "k"}),
        (
            {"AZ_CLIENT_ID": "i", "AZ_TENANT_ID": "t", "AZ_CLIENT_SECRET": "s"},
            {"client_id": "i", "tenant_id": "t", "client_secret": "s"},
        ),
        (
            {"AZURE_CLIENT_ID": "i", "AZURE_FEDERATED_TOKEN_FILE": "/f", "AZURE_TENANT_ID": "t"},
            {"client_id": "i", "tenant_id": "t", "federated_token_file": "/f"},
        ),
    ],
)
def test_azure(variables: dict[str, str], config: dict[str, Any]) -> None:
    uri = "https://acc.blob.core.windows.net/box/a/b"
    assert options(uri, **variables).config == {"account_name": "acc", **config}
    assert options(f"{uri}?sig=x", **variables).config == {
        "account_name": "acc",
        "sas_key": "sig=x",
    }


def test_google_without_credentials_is_public(tmp_path: Path) -> None:
    (tmp_path / "key.json").touch()
    named = options("gs://b/m", GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "key.json"))
    assert named.config == {"application_credentials": str(tmp_path / "key.json")}
    assert options("gs://b/m").config == {"skip_signature": True}
    with pytest.raises(InvalidArgument, match="'GOOGLE_APPLICATION_CREDENTIALS' is '/no/such'"):
        options("gs://b/m", GOOGLE_APPLICATION_CREDENTIALS="/no/such")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("S3_USE_HTTPS", "maybe"),
        ("S3_READ_TIMEOUT", "soon"),
        ("STORAGE_CONFIG", "{"),
        ("STORAGE_CONFIG", "[]"),
        ("AWS_ENDPOINT_URL", "minio"),
    ],
)
def test_a_value_that_cannot_be_is_told_with_its_variable(name: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match=f"variable '{name}'"):
        options(**({"S3_ENDPOINT": "x"} | {name: value}))
