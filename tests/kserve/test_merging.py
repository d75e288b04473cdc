# SPDX-License-Identifier: Apache-2.0
"""Strategic merging, images by server type, and where models come from."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerite.kserve.merging import merge_container, merge_labels, merge_pod
from nerite.kserve.refusals import Invalid
from nerite.kserve.server_types import image_of
from nerite.kserve.storage_paths import (
    Claim,
    Source,
    check_uri,
    common_parent,
    local_path,
    model_uri,
    parse_claim,
    resolve_storage,
    sources_of,
)


def env(*names: str, value: str = "1") -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name in names]


CONTAINERS: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("scalars of the service win", {"image": "a", "tty": True}, {"image": "b"},
     {"image": "b", "tty": True}),
    ("arguments are added", {"args": ["--a"]}, {"args": ["--b"]}, {"args": ["--a", "--b"]}),
    ("an empty list of arguments adds none", {"args": ["--a"]}, {"args": []}, {"args": ["--a"]}),
    ("a command is replaced", {"command": ["a", "b"]}, {"command": ["c"]}, {"command": ["c"]}),
    ("resources merge by key", {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
     {"resources": {"limits": {"cpu": "2"}}},
     {"resources": {"limits": {"cpu": "2", "memory": "1Gi"}}}),
    ("lists without a key are replaced", {"envFrom": [{"a": 1}]}, {"envFrom": [{"b": 1}]},
     {"envFrom": [{"b": 1}]}),
    ("another probe replaces the probe", {"readinessProbe": {"httpGet": {"port": 1},
     "periodSeconds": 5}}, {"readinessProbe": {"tcpSocket": {"port": 2}}},
     {"readinessProbe": {"tcpSocket": {"port": 2}, "periodSeconds": 5}}),
    ("a value replaces a source", {"env": [{"name": "A", "valueFrom": {"x": {}}}]},
     {"env": [{"name": "A", "value": "1"}]}, {"env": [{"name": "A", "value": "1"}]}),
    ("a source replaces a value", {"env": [{"name": "A", "value": "1"}]},
     {"env": [{"name": "A", "valueFrom": {"x": {}}}]},
     {"env": [{"name": "A", "valueFrom": {"x": {}}}]}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "runtime", "service", "merged"), CONTAINERS, ids=[c[0] for c in CONTAINERS]
)
def test_containers_merge(
    rule: str, runtime: dict[str, Any], service: dict[str, Any], merged: dict[str, Any]
) -> None:
    assert merge_container(runtime, service) == merged, rule


ORDERS = [("ABC", "ZCA", "ZBCA"), ("AB", "B", "AB"), ("AB", "C", "CAB"), ("ABC", "B", "ABC"),
          ("", "AB", "AB"), ("AB", "", "AB")]  # fmt: skip


@pytest.mark.parametrize(("runtime", "service", "merged"), ORDERS)
def test_keyed_lists_take_the_order_of_the_service(runtime: str, service: str, merged: str) -> None:
    found = merge_container({"env": env(*runtime)}, {"env": env(*service, value="2")})
    assert "".join(variable["name"] for variable in found["env"]) == merged
    assert {v["name"] for v in found["env"] if v["value"] == "2"} == set(service)


@given(
    st.lists(st.sampled_from("ABCDEF"), unique=True),
    st.lists(st.sampled_from("DEFGHI"), unique=True),
)
def test_merging_keyed_lists_loses_and_repeats_nothing(left: list[str], right: list[str]) -> None:
    found = merge_container({"env": env(*left)}, {"env": env(*right)}).get("env", [])
    names = [variable["name"] for variable in found]
    assert sorted(names) == sorted({*left, *right})
    assert [name for name in names if name in right] == right


@given(st.lists(st.sampled_from("ABCDEF"), unique=True))
def test_merging_does_not_change_what_it_reads(names: list[str]) -> None:
    runtime: dict[str, Any] = {"env": env(*names), "resources": {"limits": {"cpu": "1"}}}
    before = repr(runtime)
    merged = merge_container(runtime, {"resources": {"limits": {"cpu": "2"}}})
    merged["resources"]["limits"]["memory"] = "1"
    assert repr(runtime) == before


def test_a_pod_takes_only_some_fields_of_the_runtime() -> None:
    runtime = {
        "hostIPC": True,
        "labels": {"a": "b"},
        "nodeSelector": {"a": "1", "b": "2"},
        "volumes": [{"name": "v", "emptyDir": {}}],
    }
    service = {"nodeSelector": {"b": "3"}, "volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}
    assert merge_pod(runtime, service) == {
        "nodeSelector": {"a": "1", "b": "3"},
        "volumes": [{"name": "v", "hostPath": {"path": "/x"}}],
    }


def test_labels_of_the_nearest_win() -> None:
    assert merge_labels({"a": "1", "b": "1"}, None, {"b": "2"}) == {"a": "1", "b": "2"}


IMAGES = [
    ("a/b:1", "v2", "", {}, "a/b:v2"),
    ("a/b", "v2", "", {}, "a/b:v2"),
    ("host:5000/a/b", "v2", "", {}, "host:5000/a/b:v2"),
    ("a@sha256:00", "v2", "", {}, "a@sha256:00"),
    ("a:1", None, "torchserve", {"nvidia.com/gpu": "1"}, "a:1-gpu"),
    ("a:1-gpu", None, "torchserve", {"nvidia.com/gpu": "1"}, "a:1-gpu"),
    ("a:1", None, "torchserve", {"nvidia.com/mig-1g.5gb": "1"}, "a:1-gpu"),
    ("a:1", None, "torchserve", {"amd.com/gpu": "1"}, "a:1"),
    ("a:1", None, "sklearnserver", {"nvidia.com/gpu": "1"}, "a:1"),
    ("v/openai:latest", None, "vllmserver", {}, "v/openai-cpu:latest"),
    ("v/openai:latest", None, "vllmserver", {"nvidia.com/gpu": "1"}, "v/openai:latest"),
]  # fmt: skip


@pytest.mark.parametrize(("image", "version", "server", "limits", "expected"), IMAGES)
def test_the_image_follows_version_and_hardware(
    image: str, version: str | None, server: str, limits: dict[str, str], expected: str
) -> None:
    container = {"image": image, "resources": {"limits": limits}}
    assert image_of(container, version, server) == expected


URIS = [
    ("s3://b/m", True), ("gs://b", True), ("pvc://c", True), ("hf://o/n", True), ("/a/b", True),
    ("models/iris", True), ("https://acct.blob.core.windows.net/c/m", True), ("", True),
    ("toy://x", True), ("foo+bar://x", False), ("modelscope://o/n", False), ("S3://b", False),
]  # fmt: skip


@pytest.mark.parametrize(("uri", "known"), URIS)
def test_a_scheme_is_known_or_refused(uri: str, known: bool) -> None:
    formats = [{"prefix": "toy://"}]
    if known:
        check_uri(uri, formats)
        return
    with pytest.raises(Invalid, match="StorageURI not supported"):
        check_uri(uri, formats)


def test_sources_are_read_from_all_three_ways_to_say_them() -> None:
    assert sources_of({"model": {"storageUri": "s3://b/m"}}) == [Source("s3://b/m", "/mnt/models")]
    assert sources_of({"model": {"storage": {"path": "/p"}}}) == [
        Source("<scheme-placeholder>://p")
    ]
    several = [{"uri": "s3://a", "mountPath": "/m/a"}, {"uri": "s3://b", "mountPath": "/m/b"}]
    assert sources_of({"storageUris": several}) == [
        Source("s3://a", "/m/a"),
        Source("s3://b", "/m/b"),
    ]
    assert sources_of({"model": {}}) == []
    assert common_parent(["/m/a", "/m/b/c"]) == "/m"
    with pytest.raises(Invalid, match=r"only one of storageUri and storage\.path"):
        model_uri({"storageUri": "s3://b", "storage": {"path": "p"}})


def test_a_storage_spec_is_resolved_by_parameters_before_the_secret() -> None:
    uri = "<scheme-placeholder>://p/m"
    secret = {"type": "s3", "bucket": "theirs"}
    assert resolve_storage(uri, {}, secret) == "s3://theirs/p/m"
    assert resolve_storage(uri, {"parameters": {"bucket": "mine"}}, secret) == "s3://mine/p/m"
    assert resolve_storage(uri, {"parameters": {"type": "nfs"}}, None) == "nfs://p/m"
    assert resolve_storage("s3://b/m", {}, None) == "s3://b/m"
    with pytest.raises(Invalid, match="unable to determine storage type"):
        resolve_storage(uri, {}, None)


PATHS = [
    ("--model_dir=/mnt/models", "--model_dir=/here"),
    ("/mnt/models/model-store", "/here/model-store"),
    ("a:/mnt/models:/mnt/models", "a:/here:/here"),
    ("/mnt/models2", "/mnt/models2"),
    ("/mnt/models-old", "/mnt/models-old"),
]


@pytest.mark.parametrize(("text", "expected"), PATHS)
def test_the_mount_point_becomes_a_local_folder(text: str, expected: str) -> None:
    assert local_path(text, "/here/") == expected


def test_a_claim_is_a_name_and_a_folder() -> None:
    assert parse_claim("pvc://claim/sub/dir") == Claim("claim", "sub/dir")
    assert parse_claim("pvc://claim") == Claim("claim", "")
