"""TrainedModels: decided as KServe decides, and loaded into the process of their service."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import yaml
from tests.local.daemons import Up, condition, is_ready
from tests.local.manifests import adding, infer, isvc, url_of, write
from tests.local.test_components import cluster_of

from nerite.kserve.admission import admit_all
from nerite.kserve.builtin_runtimes import builtin_cluster
from nerite.kserve.documents import Object, read_documents
from nerite.kserve.graphs import path_in
from nerite.kserve.refusals import Refused
from nerite.local.events import Events
from nerite.local.trained import TrainedModels, verdicts

RECORDED = yaml.safe_load((Path(__file__).parents[1] / "kserve/vectors/trained.yaml").read_text())
VECTORS = [v for v in RECORDED["vectors"] if any("TrainedModel" in k for k in v.get("after", {}))]

pytestmark = pytest.mark.timeout(180)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def web(folder: Path) -> Iterator[str]:
    """A folder over HTTP, which is where a TrainedModel has to come from."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = Thread(target=lambda: server.serve_forever(0.01))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def trained(name: str, uri: str, memory: str = "256Mi", service: str = "trees") -> Object:
    model = {"framework": "onnx", "memory": memory, "storageUri": uri}
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "TrainedModel",
        "metadata": {"name": name},
        "spec": {"inferenceService": service, "model": model},
    }


def parent(memory: str = "1Gi") -> Object:
    value = isvc("trees", "sklearn", "")
    amounts = {"memory": memory, "cpu": "1"}
    model = {"modelFormat": {"name": "sklearn"}, "resources": {"limits": amounts}}
    value["spec"]["predictor"] = {"model": model}
    return value


def watch(daemon: Up, name: str, wanted: Callable[[Object], bool]) -> Object:
    for change in daemon.client.watch("TrainedModel", "default", name):
        if wanted(change["object"]):
            return change["object"]
    raise AssertionError("the daemon ended")


def rows(url: str, model: str) -> Any:
    body = json.dumps({"instances": [[1, 2]]}).encode()
    with urlopen(Request(f"{url}/v1/models/{model}:predict", body), timeout=30) as answer:
        return json.load(answer)["predictions"][0]


def test_models_come_and_go_in_their_service(daemon: Up, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    for name, amount in (("oak", 1), ("elm", 10)):
        adding(amount, site / f"{name}.onnx")
    (site / "broken.onnx").write_bytes(b"no model")
    with web(site) as here:
        file = tmp_path / "tm.yaml"
        models_of = {name: trained(name, f"{here}/{name}.onnx") for name in ("oak", "elm")}
        models_of["bad"] = trained("bad", f"{here}/broken.onnx")
        daemon.run("apply", "-f", write(file, parent(), *models_of.values()))
        for name in ("oak", "elm"):
            watch(daemon, name, is_ready)
        value = daemon.service("trees")
        url = url_of(value)
        assert rows(url, "oak") == [2, 3]
        assert rows(url, "elm") == [11, 12]
        assert infer(url, "oak", "x", [[1, 2]]) == [2, 3]
        status = daemon.client.objects("TrainedModel", "default", "oak")[0]["status"]
        assert status["url"] == f"{url}/v1/models/oak:predict"
        assert status["address"]["url"].endswith("/v1/models/oak:predict")
        assert [c["type"] for c in status["conditions"]] == [
            "InferenceServiceReady",
            "IsMMSPredictor",
            "MemoryResourceAvailable",
            "Ready",
        ]

        bad = watch(
            daemon, "bad", lambda v: condition(v, "Ready").get("reason") == "ModelLoadFailed"
        )
        assert condition(bad, "Ready")["message"].startswith("failed to load 'bad' version 1: ")
        assert condition(value, "Ready")["status"] == "True"

        (pid,) = daemon.processes("trees")
        described = daemon.run("describe", "tm", "oak").stdout
        assert f"{pid} (trees-predictor)" in described
        assert "Loaded oak into trees-predictor" in described
        assert "successfully loaded 'oak'" in daemon.run("logs", "oak").stdout
        fetched = daemon.run("logs", "oak", "-c", "storage-initializer").stdout
        assert f"fetched {here}/oak.onnx" in fetched
        assert daemon.run("get", "tm").stdout.splitlines()[0].split() == [
            "NAME", "URL", "READY", "AGE"
        ]  # fmt: skip
        daemon.until(lambda line: "default/trees model oak  Ready=True" in line)

        # Another content takes the place of the one before; a broken one leaves it.
        daemon.run("apply", "-f", write(file, trained("oak", f"{here}/elm.onnx")))
        daemon.processes_when("trees", lambda _: rows(url, "oak") == [11, 12])
        daemon.run("apply", "-f", write(file, trained("oak", f"{here}/broken.onnx")))
        told = watch(daemon, "oak", lambda v: not is_ready(v))
        assert "what was loaded before goes on answering" in condition(told, "Ready")["message"]
        assert rows(url, "oak") == [11, 12]
        daemon.run("apply", "-f", write(file, models_of["oak"]))
        daemon.processes_when("trees", lambda _: rows(url, "oak") == [2, 3])

        os.kill(pid, signal.SIGKILL)
        watch(daemon, "oak", lambda v: not is_ready(v))
        for name, expected in (("oak", [2, 3]), ("elm", [11, 12])):
            watch(daemon, name, is_ready)
            assert rows(url, name) == expected

        assert "deleted" in daemon.run("delete", "tm", "oak", "bad").stdout
        with pytest.raises(HTTPError):
            rows(url, "oak")
        assert rows(url, "elm") == [11, 12]
        assert not list((daemon.home / "run/default").glob("oak*"))


def test_one_without_its_service_waits_for_it(daemon: Up, tmp_path: Path) -> None:
    daemon.run("apply", "-f", write(tmp_path / "a.yaml", trained("oak", "http://127.0.0.1:1/oak")))
    (value,) = daemon.client.objects("TrainedModel", "default", "oak")
    told = condition(value, "Ready")
    assert told["reason"] == "InferenceServiceNotReady"
    assert told["message"].endswith('inferenceservices.serving.kserve.io "trees" not found')
    assert "default/oak  Ready=False" in daemon.until(lambda line: "default/oak  " in line)


def decided(*values: Object) -> dict[str, tuple[bool, bool]]:
    cluster = cluster_of(yaml.safe_dump_all(values))
    return {v.model.name: (v.is_multi_model, v.fits) for v in verdicts(cluster)}


def test_memory_is_given_to_those_that_were_there_first_as_far_as_it_goes() -> None:
    uri = "s3://forest/m"
    sizes = {"a": "512Mi", "b": "600Mi", "c": "512Mi"}
    all_of_them = [trained(name, uri, size) for name, size in sizes.items()]
    expected = {"a": (True, True), "b": (True, False), "c": (True, True)}
    assert decided(parent(), *all_of_them) == expected
    without = parent()
    del without["spec"]["predictor"]["model"]["resources"]
    assert decided(without, all_of_them[0]) == {"a": (True, False)}
    with_model = parent()
    with_model["spec"]["predictor"]["model"]["storageUri"] = uri
    assert decided(with_model, all_of_them[0]) == {"a": (False, True)}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_conditions_are_those_that_kserve_was_seen_to_write(vector: Object) -> None:
    cluster = builtin_cluster()
    for text in vector["documents"]:
        with suppress(Refused):
            cluster = admit_all(read_documents(text, "a.yaml"), cluster)
    models = TrainedModels(Events())
    models.components(cluster, lambda _: [])
    models.look(lambda _: {"conditions": []}, {}, 0.0)
    for key, after in vector["after"].items():
        kind, namespace, name = key.split("/")
        if kind == "TrainedModel":
            found = models.status((namespace, name))["conditions"]
            for each in found:
                del each["lastTransitionTime"]
            assert found == after["conditions"]


def test_a_step_of_a_graph_asks_such_a_service_by_its_bare_host() -> None:
    path_of = path_in(cluster_of(yaml.safe_dump_all([parent()])), "default")
    assert path_of("trees") == ""
    assert path_of("others") == "/v1/models/others:predict"
