# SPDX-License-Identifier: Apache-2.0
"""The variables that KServe gives its storage initializer -> what obstore is told.

A pure function of variables and source: nothing is connected to, obstore is not imported. KServe's
names are kept, `S3_USER_VIRTUAL_BUCKET` included; where a name is not KServe's, it is the one of
the library that everybody uses (boto3, Google's, Azure's).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nerite.downloads.http import ca_bundle
from nerite.downloads.sources import Source
from nerite.errors import InvalidArgument

_NO = ("0", "false", "no", "off")
_YES = ("1", "true", "yes", "on")
#: A key of the entry in a storage secret -> the variable that means the same.
_OF_SECRET = {
    "access_key_id": "AWS_ACCESS_KEY_ID",
    "secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "endpoint_url": "AWS_ENDPOINT_URL",
    "region": "AWS_DEFAULT_REGION",
    "verify_ssl": "S3_VERIFY_SSL",
    "ca_bundle": "AWS_CA_BUNDLE",
    "anonymous": "awsAnonymousCredential",
}


#: What a cluster sets for a pod that acts in a role instead of with keys.
_OF_A_ROLE = {
    "role_arn": "AWS_ROLE_ARN",
    "role_session_name": "AWS_ROLE_SESSION_NAME",
    "web_identity_token_file": "AWS_WEB_IDENTITY_TOKEN_FILE",
    "container_credentials_relative_uri": "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "container_credentials_full_uri": "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "container_authorization_token_file": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
}


@dataclass(frozen=True, slots=True)
class BucketOptions:
    """How a bucket is reached."""

    config: Mapping[str, Any]
    client: Mapping[str, Any] = field(default_factory=dict)
    max_retries: int = 3


def bucket_options(source: Source, variables: Mapping[str, str]) -> BucketOptions:
    """How the bucket of a source is reached.

    Raises:
        InvalidArgument: A variable has a value that cannot be.
        NotFound: A file that a variable names is not there.
    """
    variables = {**variables, **_of_storage_config(variables)}
    if source.kind == "s3":
        return _s3(source, variables)
    return _google(variables) if source.kind == "gs" else _azure(source, variables)


def _of_storage_config(variables: Mapping[str, str]) -> dict[str, str]:
    """What a `storage:` of an InferenceService says, as the variables that mean the same."""
    entry: dict[str, Any] = {}
    for name in ("STORAGE_CONFIG", "STORAGE_OVERRIDE_CONFIG"):
        try:
            told = json.loads(variables.get(name) or "{}")
        except ValueError as why:
            raise InvalidArgument(f"variable '{name}' is not JSON: {why}") from why
        if not isinstance(told, dict):
            raise InvalidArgument(f"variable '{name}' must be a JSON object")
        entry |= told
    if entry.get("type", "s3") != "s3":
        return {}
    return {_OF_SECRET[key]: str(value) for key, value in entry.items() if key in _OF_SECRET}


def _s3(source: Source, variables: Mapping[str, str]) -> BucketOptions:
    virtual = _flag(variables, "S3_USER_VIRTUAL_BUCKET", default=False)
    endpoint = _endpoint(variables)
    if _flag(variables, "S3_USE_ACCELERATE", default=False):
        endpoint, virtual = "https://s3-accelerate.amazonaws.com", True
    if endpoint and virtual:  # obstore takes the address as it is then
        parts = urlsplit(endpoint)
        endpoint = f"{parts.scheme}://{source.container}.{parts.netloc}"
    config: dict[str, Any] = {
        "region": variables.get("AWS_DEFAULT_REGION") or variables.get("AWS_REGION") or "us-east-1",
        "virtual_hosted_style_request": virtual,
        "skip_signature": _flag(variables, "awsAnonymousCredential", default=False),
        "endpoint": endpoint,
        "access_key_id": variables.get("AWS_ACCESS_KEY_ID"),
        "secret_access_key": variables.get("AWS_SECRET_ACCESS_KEY"),
        "session_token": variables.get("AWS_SESSION_TOKEN"),
        **{key: variables.get(name) for key, name in _OF_A_ROLE.items()},
    }
    client: dict[str, Any] = {
        **_patience(variables),
        "allow_http": endpoint.startswith("http://"),
        "allow_invalid_certificates": not _flag(variables, "S3_VERIFY_SSL", default=True),
    }
    bundle = ca_bundle(variables)
    if bundle is not None:
        client["root_certificate"] = bundle.read_bytes()
    # boto3 counts tries, obstore what comes after the first.
    retries = max(0, _number(variables, "S3_MAX_ATTEMPTS", 3) - 1)
    return BucketOptions(_given(config), client, retries)


def _patience(variables: Mapping[str, str]) -> dict[str, str]:
    """How long to wait. A piece may take its time as long as something comes."""
    return {
        "connect_timeout": f"{_number(variables, 'S3_CONNECT_TIMEOUT', 15)}s",
        "read_timeout": f"{_number(variables, 'S3_READ_TIMEOUT', 30)}s",
        "timeout": "1h",
    }


def _endpoint(variables: Mapping[str, str]) -> str:
    url = variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL") or ""
    if not url and (host := variables.get("S3_ENDPOINT", "")):
        secure = _flag(variables, "S3_USE_HTTPS", default=True)
        url = host if "://" in host else f"{'https' if secure else 'http'}://{host}"
    if url and urlsplit(url).scheme not in ("http", "https"):
        raise InvalidArgument(f"variable 'AWS_ENDPOINT_URL' is '{url}'; http://... is expected")
    return url.rstrip("/")


def _google(variables: Mapping[str, str]) -> BucketOptions:
    patience = _patience(variables)
    emulator = variables.get("STORAGE_EMULATOR_HOST", "")
    if emulator:
        url = emulator if "://" in emulator else f"http://{emulator}"
        client = {**patience, "allow_http": url.startswith("http://")}
        return BucketOptions({"base_url": url, "skip_signature": True}, client)
    if key := variables.get("GOOGLE_SERVICE_ACCOUNT_KEY"):
        return BucketOptions({"service_account_key": key}, patience)
    file = variables.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    if not file:
        return BucketOptions({"skip_signature": True}, patience)
    if not Path(file).is_file():
        raise InvalidArgument(
            f"variable 'GOOGLE_APPLICATION_CREDENTIALS' is '{file}', where there is no file"
        )
    return BucketOptions({"application_credentials": file}, patience)


def _azure(source: Source, variables: Mapping[str, str]) -> BucketOptions:
    def named(*names: str) -> str | None:
        return next((variables[name] for name in names if variables.get(name)), None)

    config: dict[str, Any] = {"account_name": source.account}
    client_id = named("AZURE_CLIENT_ID", "AZ_CLIENT_ID")
    key = named("AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY")
    if source.query:
        config["sas_key"] = source.query
    elif client_id:
        config |= {
            "client_id": client_id,
            "tenant_id": named("AZURE_TENANT_ID", "AZ_TENANT_ID"),
            "client_secret": named("AZURE_CLIENT_SECRET", "AZ_CLIENT_SECRET"),
            "federated_token_file": named("AZURE_FEDERATED_TOKEN_FILE"),
        }
    elif key:
        config["account_key"] = key
    else:
        config["skip_signature"] = True
    return BucketOptions(_given(config), _patience(variables))


def _given(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value not in (None, "", False)}


def _flag(variables: Mapping[str, str], name: str, *, default: bool) -> bool:
    word = variables.get(name, "").lower()
    if word and word not in _YES + _NO:
        raise InvalidArgument(f"variable '{name}' is '{word}'; true or false is expected")
    return word in _YES if word else default


def _number(variables: Mapping[str, str], name: str, default: int) -> int:
    word = variables.get(name) or str(default)
    if not word.isdigit():
        raise InvalidArgument(f"variable '{name}' is '{word}'; a whole number is expected")
    return int(word)
