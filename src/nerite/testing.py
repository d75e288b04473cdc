# SPDX-License-Identifier: Apache-2.0
"""For tests of what is built on Nerite: an in-process server, batches, the contract suite.

`serve` starts a server on free ports of this machine. `batch_of` makes what a backend is given from
arrays, without a server. `BackendContract` is a pytest class: subclass it, say which backend and
which model, and its tests hold your backend against what the data plane relies on. pytest is not
imported here.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from nerite.backends import registry
from nerite.backends.contract import Backend, Device, Model
from nerite.backends.made import MadeBatch, MadeRequest, frozen
from nerite.config import ModelConfig, Settings, read_model
from nerite.server.options import ServerOptions
from nerite.server.server import Server
from nerite.tensors import Array, datatype_of, fits

T = TypeVar("T")

#: What a backend is given by tests.
FakeRequest = MadeRequest
FakeBatch = MadeBatch

LOOPBACK = ServerOptions(
    http_address="127.0.0.1",
    http_port=0,
    grpc_address="127.0.0.1",
    grpc_port=0,
    metrics_port=0,
    io_threads=1,
)


@contextmanager
def serve(*repositories: str | Path, wait: float | None = 60.0, **options: Any) -> Iterator[Server]:
    """A server of these repositories on free ports of this machine, ready unless `wait` is None.

    `options` are fields of `ServerOptions`.
    """
    chosen = dataclasses.replace(LOOPBACK, repositories=tuple(repositories), **options)
    with Server(chosen) as server:
        if wait is not None:
            server.wait_ready(wait)
        yield server


def batch_of(*requests: Mapping[str, Array], batches: bool = True, **fields: Any) -> FakeBatch:
    """A batch of requests, each given as its inputs; `fields` are those of `FakeRequest`.

    With `batches` the first dimension of each input is the batch dimension.
    """
    made = []
    for inputs in requests:
        arrays = {name: frozen(array) for name, array in inputs.items()}
        rows = next(iter(arrays.values())).shape[0] if batches and arrays else 1
        made.append(FakeRequest(arrays, rows, **fields))
    return FakeBatch(made)


def answers_of(executed: Any, batch: FakeBatch) -> list[Any]:
    """One answer per request out of whatever `execute` returned: outputs, or an exception."""
    if isinstance(executed, tuple):
        executed = executed[0]
    if not isinstance(executed, Mapping):
        return [answer[0] if isinstance(answer, tuple) else answer for answer in executed]
    if len(batch) == 1:
        return [executed]
    split, start = [], 0
    for request in batch.requests:
        end = start + request.rows
        split.append({name: array[start:end] for name, array in executed.items()})
        start = end
    return split


def model_for(
    folder: Path, fields: Mapping[str, Any], *, instance: str = "", trusted: bool = False
) -> Model:
    """A model as an instance of it is given, its configuration completed; `folder` holds its files.

    Files of the version lie in `folder/1`, which is made if it is not there.
    """
    written = ModelConfig.from_dict({"name": folder.name, **fields})
    (folder / "1").mkdir(parents=True, exist_ok=True)
    backend = registry.find(written.backend)

    def infer(config: ModelConfig, version_dir: Path, settings: Settings) -> ModelConfig:
        complete = getattr(backend, "complete", None)
        given = settings.for_backend(config.backend)
        model = Model(config, 1, folder, version_dir, settings=given, trusted=trusted)
        try:
            return config if complete is None else complete(model)
        finally:
            model.shared.clear()

    loaded = read_model(folder, override_json=written.to_json(), inferrer=infer)
    name = instance or f"{folder.name}_0"
    version = (folder / "1").resolve()
    return Model(loaded.config, 1, folder.resolve(), version, name, trusted=trusted)


def on_instance_thread(work: Callable[[], T]) -> T:
    """Runs something on a thread of its own, as instances run; returns or raises what it did."""
    results: list[T] = []
    errors: list[BaseException] = []

    def main() -> None:
        try:
            results.append(work())
        except BaseException as why:
            errors.append(why)

    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class BackendContract:
    """What the data plane relies on in every backend. Subclass it in a test module.

    class TestMine(BackendContract):
        backend = "my_module:MyBackend"
        config = {"max_batch_size": 4, "input": [...], "output": [...]}
        examples = [({"IN": np.ones((1, 2), np.float32)}, {"OUT": ...})]
    """

    backend: ClassVar[str]
    """The name that a configuration would use."""
    config: ClassVar[Mapping[str, Any]]
    """The configuration, as `ModelConfig.from_dict` takes it, without name and backend."""
    files: ClassVar[Mapping[str, bytes]] = {}
    """Files of the version folder."""
    examples: ClassVar[Sequence[tuple[Mapping[str, Array], Mapping[str, Array]]]]
    """Inputs of one request and the outputs it must get; at least two."""

    def make_model(self, tmp_path: Path) -> Model:
        """The model that the tests load."""
        folder = tmp_path / "model_under_test"
        for name, data in self.files.items():
            (folder / "1" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "1" / name).write_bytes(data)
        return model_for(folder, {"backend": self.backend, **self.config})

    def test_the_name_leads_to_a_class_with_the_three_methods(self) -> None:
        kind = registry.find(self.backend)
        assert all(callable(getattr(kind, name)) for name in ("load", "execute", "unload"))

    def test_each_example_alone_gets_its_outputs(self, tmp_path: Path) -> None:
        with self.loaded(tmp_path) as (_, execute):
            for inputs, expected in self.examples:
                same(execute([inputs])[0], expected)

    def test_examples_in_one_batch_get_what_they_get_alone(self, tmp_path: Path) -> None:
        with self.loaded(tmp_path) as (model, execute):
            if model.config.max_batch_size == 0:
                return  # such a model is given one request at a time
            answers = execute([inputs for inputs, _ in self.examples])
            assert len(answers) == len(self.examples)
            for answer, (_, expected) in zip(answers, self.examples, strict=True):
                same(answer, expected)

    def test_outputs_are_as_declared(self, tmp_path: Path) -> None:
        with self.loaded(tmp_path) as (model, execute):
            declared = {tensor.name: tensor for tensor in model.config.outputs}
            batch = (-1,) if model.config.max_batch_size else ()
            for inputs, _ in self.examples:
                for name, array in execute([inputs])[0].items():
                    tensor = declared[name]
                    dims = tensor.dims if tensor.reshape is None else tensor.reshape
                    assert fits(array.shape, (*batch, *dims)), name
                    expected = "UINT16" if tensor.datatype == "BF16" else tensor.datatype
                    assert datatype_of(array.dtype) == expected, name

    def test_inputs_are_left_as_they_are(self, tmp_path: Path) -> None:
        with self.loaded(tmp_path) as (_, execute):
            for inputs, _ in self.examples:
                before = {name: array.copy() for name, array in inputs.items()}
                execute([inputs])
                same(inputs, before)

    def test_it_can_be_unloaded_and_loaded_again(self, tmp_path: Path) -> None:
        inputs, expected = self.examples[0]
        for _ in range(2):
            with self.loaded(tmp_path) as (_, execute):
                same(execute([inputs])[0], expected)

    def test_two_instances_do_not_disturb_each_other(self, tmp_path: Path) -> None:
        inputs, expected = self.examples[0]
        with self.loaded(tmp_path) as (_, first), self.loaded(tmp_path) as (_, second):
            same(first([inputs])[0], expected)
            same(second([inputs])[0], expected)
            same(first([inputs])[0], expected)

    def test_unload_after_a_load_that_failed_raises_nothing(self, tmp_path: Path) -> None:
        backend = registry.find(self.backend)()
        model = self.make_model(tmp_path)
        nowhere = dataclasses.replace(model, version_folder=tmp_path / "nowhere")

        def life() -> None:
            try:
                backend.load(nowhere, Device())
            except Exception:  # noqa: S110 - whether it fails here is the backend's business
                pass
            finally:
                backend.unload()

        on_instance_thread(life)

    @contextmanager
    def loaded(
        self, tmp_path: Path
    ) -> Iterator[tuple[Model, Callable[[Sequence[Mapping[str, Array]]], list[Any]]]]:
        """A loaded instance, and a function that executes a batch and gives its answers."""
        model = self.make_model(tmp_path)
        backend: Backend = registry.find(self.backend)()

        def execute(requests: Sequence[Mapping[str, Array]]) -> list[Any]:
            batch = batch_of(*requests, batches=model.config.max_batch_size > 0)
            answers = answers_of(backend.execute(batch), batch)
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
            return answers

        try:
            backend.load(model, Device(threads=1))
            yield model, execute
        finally:
            backend.unload()
            model.shared.clear()


def same(got: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    """Fails unless both have the same names with equal arrays; floats may differ a little."""
    assert sorted(got) == sorted(expected)
    for name, array in expected.items():
        if np.asarray(array).dtype.kind == "f":
            np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(_text_free(got[name]), _text_free(array), err_msg=name)


def _text_free(array: Array) -> Array:
    """Strings as `bytes`, whichever way a backend gives them."""
    if array.dtype.kind not in "OSU":
        return array
    items = [item.encode() if isinstance(item, str) else bytes(item) for item in array.flat]
    flat = np.empty(len(items), dtype=object)
    flat[:] = items
    return flat.reshape(array.shape)
