"""Python models in Triton's format: their life, their texts, and their isolation."""

from __future__ import annotations

import json
import logging
import pickle
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nerite import errors
from nerite.backends.contract import Device, Model
from nerite.backends.python import shim as pb_utils
from nerite.backends.python.backend import PythonBackend
from nerite.backends.python.modules import ModelModules
from nerite.testing import batch_of, model_for

VECTORS = json.loads((Path(__file__).parent / "vectors/python_errors.json").read_text())
HEAD = "import numpy as np\nimport triton_python_backend_utils as pb_utils\n"
FIELDS = {
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [-1]}],
    "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [-1]}],
}


def prepare(tmp_path: Path, body: str, fields: Mapping[str, Any] = FIELDS, **files: str) -> Model:
    """A model whose class has this body."""
    folder = tmp_path / "m"
    (folder / "1").mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (folder / "1/model.py").write_text(f"{HEAD}\n\nclass TritonPythonModel:\n{lines}")
    return model_for(folder, {"backend": "python", **fields})


def loaded(model: Model) -> PythonBackend:
    backend = PythonBackend()
    backend.load(model, Device())
    return backend


def run(tmp_path: Path, body: str, *inputs: Any, **fields: Any) -> Any:
    """What `execute` with this body answers to requests with these X."""
    backend = loaded(prepare(tmp_path, body))
    requests = [{"X": np.asarray(x, np.float32)} for x in inputs or ([1, 2],)]
    return backend.execute(batch_of(*requests, batches=False, **fields))


RETURN_Y = """
def execute(self, requests):
    return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", {})]) for request in requests]
"""


# ---- Triton's recorded errors


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: str(case["id"]))
def test_errors_read_as_in_triton(case: Any, tmp_path: Path) -> None:
    files = VECTORS["models"]["err"]
    folder = tmp_path / "err"
    (folder / "1").mkdir(parents=True)
    (folder / "1/model.py").write_text(files["1/model.py"])
    (folder / "config.pbtxt").write_text(files["config.pbtxt"])
    from nerite.config import read_model

    config = read_model(folder).config
    backend = loaded(Model(config, 1, folder, folder / "1", "err_0"))
    step = case["steps"][0]
    word = json.loads(step["request"]["body"])["inputs"][0]["data"][0].encode()
    batch = batch_of({"WHAT": np.array([word], dtype=object)}, batches=False)
    try:
        (answer,) = backend.execute(batch)
    except errors.NeriteError as why:
        answer = why
    expect = step["expect"]
    if expect.get("failed"):  # Triton never answers; we do
        assert "Expected a list in the execute return, found type '<class 'NoneType'>'." in str(
            answer
        )
    elif expect["status"] == 200:
        assert not isinstance(answer, BaseException)
        assert {"ok": ["OUT"], "wrong_name": ["NOPE"], "wrong_shape": ["OUT"]}[
            word.decode()
        ] == list(answer)
    else:
        text = json.loads(expect["body"])["error"].replace("{repo}", str(tmp_path))
        assert (str(answer), STATUS[answer.code]) == (text, expect["status"])


STATUS = {
    "UNKNOWN": 400,
    "INTERNAL": 500,
    "NOT_FOUND": 404,
    "INVALID_ARG": 400,
    "UNAVAILABLE": 503,
    "UNSUPPORTED": 501,
    "ALREADY_EXISTS": 400,
    "CANCELLED": 400,
}


# ---- what execute may return


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        ("None", "Expected a list in the execute return, found type '<class 'NoneType'>'."),
        ("(1,)", "Expected a list in the execute return, found type '<class 'tuple'>'."),
        (
            "[]",
            "Number of InferenceResponse objects do not match the number of InferenceRequest "
            "objects. InferenceRequest(s) size is:1, and InferenceResponse(s) size is:0\n",
        ),
        (
            "[None]",
            "Expected an 'InferenceResponse' object in the execute function return list, "
            "found type '<class 'NoneType'>'.",
        ),
        ("[pb_utils.InferenceResponse([1])]", "output_tensors that are not a list"),
        ("[pb_utils.InferenceResponse(7)]", "output_tensors that are not a list"),
    ],
)
def test_a_wrong_return_value_is_an_error_of_the_batch(
    returned: str, text: str, tmp_path: Path
) -> None:
    with pytest.raises(errors.InternalError) as caught:
        run(tmp_path, f"def execute(self, requests):\n    return {returned}")
    assert text in str(caught.value)
    assert "for model 'm_0'" in str(caught.value)


def test_a_class_without_execute_loads_and_says_so_when_called(tmp_path: Path) -> None:
    with pytest.raises(errors.InternalError, match="has no method 'execute'"):
        run(tmp_path, "pass")


def test_execute_may_be_a_coroutine(tmp_path: Path) -> None:
    body = """
async def execute(self, requests):
    import asyncio
    await asyncio.sleep(0)
    return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.ones(1))]) for _ in requests]
"""
    backend = loaded(prepare(tmp_path, body))
    for _ in range(2):
        (answer,) = backend.execute(batch_of({"X": np.ones(1, "f4")}, batches=False))
        assert answer["Y"].tolist() == [1.0]
    backend.unload()


def test_one_response_may_fail_and_the_others_succeed(tmp_path: Path) -> None:
    body = """
def execute(self, requests):
    bad = pb_utils.TritonError("no", pb_utils.TritonError.UNAVAILABLE)
    good = pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.ones(1))])
    return [good, pb_utils.InferenceResponse(error=bad), pb_utils.InferenceResponse(error="text")]
"""
    first, second, third = run(tmp_path, body, [1], [2], [3])
    assert list(first) == ["Y"]
    assert (second.code, str(second)) == ("UNAVAILABLE", "no")
    assert (third.code, str(third)) == ("INTERNAL", "text")


def test_responses_may_carry_parameters(tmp_path: Path) -> None:
    body = """
def execute(self, requests):
    return [pb_utils.InferenceResponse([], parameters={"a": 1, "b": "x", "c": True})]
"""
    assert run(tmp_path, body) == [({}, {"a": 1, "b": "x", "c": True})]
    for wrong in ({"a": 1.5}, {"a": None}, {1: 2}):
        with pytest.raises(pb_utils.TritonModelException, match="is a"):
            pb_utils.InferenceResponse([], parameters=wrong)


def test_inputs_are_the_arrays_themselves_and_read_only(tmp_path: Path) -> None:
    batch = batch_of({"X": np.ones(2, "f4")}, batches=False)
    backend = loaded(
        prepare(
            tmp_path,
            """
def execute(self, requests):
    (tensor,) = requests[0].inputs()
    assert tensor.as_numpy() is pb_utils.get_input_tensor_by_name(requests[0], "X").as_numpy()
    assert pb_utils.get_input_tensor_by_name(requests[0], "NOPE") is None
    return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", tensor.as_numpy())])]
""",
        )
    )
    (answer,) = backend.execute(batch)
    assert answer["Y"] is batch.requests[0].inputs["X"]


def test_requests_tell_what_the_client_said(tmp_path: Path) -> None:
    body = """
def execute(self, requests):
    r = requests[0]
    told = [r.request_id(), r.correlation_id(), r.flags(), r.timeout(), r.requested_output_names(),
            r.parameters(), r.is_cancelled(), r.trace()]
    assert isinstance(r, pb_utils.InferenceRequest)
    return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.array([repr(told)], object))])]
"""
    fields = {
        "id": "r1",
        "correlation_id": "c",
        "flags": 3,
        "timeout_us": 9,
        "requested_outputs": ["Y"],
        "parameters": {"a": 1, "b": 1.5, "c": True, "d": "x"},
        "cancelled": True,
    }
    (answer,) = run(tmp_path, body, **fields)
    parameters = '{"a": 1, "b": 1.5, "c": true, "d": "x"}'
    assert answer["Y"][0] == repr(["r1", "c", 3, 9, ["Y"], parameters, True, None])


# ---- life cycle


def test_initialize_gets_what_triton_gives_it(tmp_path: Path) -> None:
    body = """
def initialize(self, args):
    import json
    assert sorted(args) == ["model_config", "model_instance_device_id", "model_instance_kind",
        "model_instance_name", "model_name", "model_repository", "model_version"], args
    assert all(type(value) is str for value in args.values())
    config = json.loads(args["model_config"])
    assert pb_utils.get_output_config_by_name(config, "Y")["data_type"] == "TYPE_FP32"
    assert pb_utils.get_input_config_by_name(config, "NOPE") is None
    assert not pb_utils.using_decoupled_model_transaction_policy(config)
    self.args = args
"""
    backend = loaded(prepare(tmp_path, body))
    args = backend._object.args
    assert (args["model_instance_name"], args["model_instance_kind"]) == ("m_0", "CPU")
    assert args["model_repository"] == str((tmp_path / "m").resolve())


def test_a_model_without_file_is_refused_at_once(tmp_path: Path) -> None:
    # Triton never becomes ready and never fails here.
    with pytest.raises(errors.InternalError, match=r"model 'm' has no file 'model.py'"):
        model_for(tmp_path / "m", {"backend": "python", **FIELDS})


def test_a_model_without_the_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m/1").mkdir(parents=True)
    (tmp_path / "m/1/model.py").write_text("x = 1")
    with pytest.raises(errors.InternalError, match="has no class TritonPythonModel"):
        model_for(tmp_path / "m", {"backend": "python", **FIELDS})


def test_a_model_that_exits_while_loading_only_fails(tmp_path: Path) -> None:
    with pytest.raises(errors.InternalError, match="SystemExit: 3"):
        loaded(prepare(tmp_path, "def initialize(self, args):\n    import sys\n    sys.exit(3)"))


@pytest.mark.parametrize(
    "use",
    [
        "pb_utils.InferenceRequest(model_name='x')",
        "pb_utils.load_model('x')",
        "pb_utils.unload_model('x')",
        "pb_utils.is_model_ready('x')",
        "requests[0].set_release_flags(2)",
        "pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_GPU)",
    ],
)
def test_what_is_not_offered_yet_says_so_where_it_is_used(use: str, tmp_path: Path) -> None:
    with pytest.raises(errors.InternalError, match="is not supported by this version of Nerite"):
        run(tmp_path, f"def execute(self, requests):\n    {use}")


# ---- auto-complete


def complete(tmp_path: Path, body: str, fields: Mapping[str, Any]) -> Model:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    text = f"@staticmethod\ndef auto_complete_config(config):\n{lines}\n    return config"
    return prepare(tmp_path, text, fields)


def test_auto_complete_fills_the_gaps(tmp_path: Path) -> None:
    body = """one = {"name": "A", "data_type": "TYPE_STRING", "dims": [1], "optional": True}
config.add_input(one)
config.add_output({"name": "B", "data_type": "TYPE_FP32", "dims": [-1]})
config.set_max_batch_size(8)
config.set_dynamic_batching()
config.set_model_transaction_policy({"decoupled": False})
assert config.as_dict()["max_batch_size"] == 8"""
    config = complete(tmp_path, body, {}).config
    assert [(t.name, t.datatype, t.dims, t.optional) for t in config.inputs] == [
        ("A", "BYTES", (1,), True)
    ]
    assert config.max_batch_size == 8
    assert config.dynamic_batching is not None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("config.set_max_batch_size(1)", "configuration specified max_batch_size 2, but in auto-"),
        ("config.add_input({'name': 'X', 'data_type': 'TYPE_INT8', 'dims': [-1]})",
         "configuration expects datatype TYPE_FP32 for input 'X', model provides TYPE_INT8"),
        ("config.add_output({'name': 'Y', 'data_type': 'TYPE_FP32', 'dims': [3]})",
         "tensor 'Y': the model expects dims [3] but the model configuration specifies dims [-1]"),
        ("config.add_output({'name': 'Z', 'data_type': 'TYPE_FP32', 'dims': [3], 'optional': 1})",
         "output 'Z' in auto-complete-config function for model 'm' contains property other than "
         "'name', 'data_type' and 'dims'."),
        ("config.add_input({'dims': [3]})",
         "input in auto-complete-config function for model 'm' is missing 'name' property."),
        ("config.set_model_transaction_policy({'x': 1})", "property other than 'decoupled'"),
    ],
)  # fmt: skip
def test_auto_complete_may_not_contradict_the_file(body: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(errors.InternalError) as caught:
        complete(tmp_path, body, {**FIELDS, "max_batch_size": 2})
    assert str(caught.value).startswith("ValueError: ")
    assert text in str(caught.value)


# ---- modules


def test_exceptions_name_the_frames_of_the_model_only(tmp_path: Path) -> None:
    body = "def execute(self, requests):\n    import helper\n    helper.fail()"
    model = prepare(tmp_path, body, helper__py="def fail():\n    raise KeyError('k')\n")
    with pytest.raises(errors.InternalError) as caught:
        loaded(model).execute(batch_of({"X": np.ones(1, "f4")}, batches=False))
    folder = (tmp_path / "m").resolve()
    assert str(caught.value) == (
        "Failed to process the request(s) for model 'm_0', message: KeyError: 'k'\n\nAt:\n"
        f"  {folder}/helper.py(2): fail\n  {folder}/1/model.py(8): execute\n"
    )


def test_models_can_import_in_every_way_and_stay_apart(tmp_path: Path) -> None:
    def make(name: str) -> ModelModules:
        folder = tmp_path / name
        (folder / "1/package").mkdir(parents=True)
        (folder / "1/package/__init__.py").write_text("from . import part\n")
        (folder / "1/package/part.py").write_text(f"WHO = {name!r}\nimport top\n")
        (folder / "top.py").write_text(f"WHO = {name!r}\nclass Thing: pass\n")
        (folder / "1/json.py").write_text("raise RuntimeError('hides the standard library')\n")
        (folder / "1/numpy").mkdir()  # data, not a package
        (folder / "1/model.py").write_text(
            "import json, numpy\n"
            "import package.part as a\nfrom package import part as b\n"
            "from package.part import WHO\nimport package.part\n"
            "from .package import part as c\nimport top\n"
            "assert a is b is c is package.part and package.part.top is top\n"
            "assert numpy.float32 and json.dumps\n"
        )
        return ModelModules(name, [folder / "1", folder])

    before = set(sys.modules)
    made = {name: make(name) for name in ("x-1", "x.1")}
    modules = {n: m.load(tmp_path / n / "1/model.py") for n, m in made.items()}
    assert {n: (m.WHO, m.top.WHO) for n, m in modules.items()} == {n: (n, n) for n in made}
    thing = modules["x-1"].top.Thing()
    assert type(pickle.loads(pickle.dumps(thing))) is type(thing)
    assert not {"top", "package", "model"} & set(sys.modules)
    for one in made.values():
        one.close()
    assert {name for name in set(sys.modules) - before if "x_1" in name} == set()
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_changed_model_is_read_anew(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "model.py").write_text(f"N = {number}")
        modules = ModelModules("m", [tmp_path])
        assert number == modules.load(tmp_path / "model.py").N
        modules.close()


def test_a_missing_module_is_reported_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "m/1").mkdir(parents=True)
    (tmp_path / "m/1/model.py").write_text("\nimport nowhere_to_be_found\n")
    with pytest.raises(errors.InternalError) as caught:
        model_for(tmp_path / "m", {"backend": "python", **FIELDS})
    assert re.fullmatch(
        r"ModuleNotFoundError: No module named 'nowhere_to_be_found'\n\nAt:\n"
        r"  .*/m/1/model.py\(2\): <module>\n",
        str(caught.value),
    )


# ---- the module that models import


def test_bf16_goes_in_and_out_as_bfloat16(tmp_path: Path) -> None:
    fields = {
        kind: [{**tensor, "data_type": "TYPE_BF16"} for tensor in FIELDS[kind]] for kind in FIELDS
    }
    body = """
def execute(self, requests):
    (x,) = requests[0].inputs()
    assert x.triton_dtype() == 14
    return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", x.as_numpy() * 2)])]
"""
    bits = np.array([0x3F80, 0x4000], np.uint16)  # 1 and 2
    backend = loaded(prepare(tmp_path, body, fields))
    (answer,) = backend.execute(batch_of({"X": bits}, batches=False))
    assert answer["Y"].dtype.name == "bfloat16"
    assert answer["Y"].astype("f4").tolist() == [2, 4]


def test_the_logger_writes_to_the_servers_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "nerite"):
        pb_utils.Logger.log_info("100 %s")
        pb_utils.Logger.log_warn("w")
        pb_utils.Logger.log_error("e")
        pb_utils.Logger.log_verbose("v")
        pb_utils.Logger.log("l", pb_utils.Logger.WARNING)
    assert [(r.levelname, r.getMessage(), r.filename) for r in caplog.records] == [
        (level, text, "test_python.py")
        for level, text in (
            ("INFO", "100 %s"), ("WARNING", "w"), ("ERROR", "e"), ("DEBUG", "v"), ("WARNING", "l")
        )
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4"])
def test_tensors_share_memory_through_dlpack(dtype: str) -> None:
    array = np.ones((2, 3), dtype)
    tensor = pb_utils.Tensor("T", array)
    back = pb_utils.Tensor.from_dlpack("U", tensor.to_dlpack())
    assert back.name() == "U"
    assert np.shares_memory(back.as_numpy(), array)
    assert tensor.shape() == [2, 3]
    assert pb_utils.triton_to_numpy_type(tensor.triton_dtype()) == array.dtype
    assert np.from_dlpack(tensor).tolist() == array.tolist()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: pb_utils.Tensor("", np.ones(1)), "Tensor name cannot be an empty string."),
        (lambda: pb_utils.Tensor("T", [1]), "is made of a list"),
        (lambda: pb_utils.Tensor("T", np.ones(1, "c8")), "dtype complex64"),
        (lambda: pb_utils.Tensor("T", np.array([b"a"], object)).to_dlpack(), "string tensors"),
        (lambda: pb_utils.TritonError("x", 99), "99 is not a code"),
    ],
)
def test_what_cannot_be_a_tensor_is_refused(make: Callable[[], object], text: str) -> None:
    with pytest.raises(pb_utils.TritonModelException, match=re.escape(text)):
        make()


def test_types_are_named_as_in_triton() -> None:
    assert pb_utils.triton_string_to_numpy("TYPE_FP16") is np.float16
    assert pb_utils.triton_string_to_numpy("TYPE_STRING") is np.object_
    assert pb_utils.numpy_to_triton_type(np.object_) == 13
    assert pb_utils.triton_to_numpy_type(14) is None
    with pytest.raises(KeyError):
        pb_utils.triton_string_to_numpy("FP32")
    data = pb_utils.serialize_byte_tensor(np.array([b"a", "é"], object))
    assert pb_utils.deserialize_bytes_tensor(data).tolist() == [b"a", "é".encode()]


# ---- metrics of a model's own


@pytest.mark.parametrize(
    ("use", "text"),
    [
        ("pb_utils.MetricFamily('n', 'd', 7)", "COUNTER, GAUGE or HISTOGRAM is expected"),
        ("pb_utils.MetricFamily('nv_inference_count', 'd', 0)", "begins like the server's own"),
        ("pb_utils.MetricFamily('a b', 'd', 0)", "has no usable name"),
        ("pb_utils.MetricFamily('h', 'd', 2).Metric()", "has no buckets"),
        ("pb_utils.MetricFamily('c', 'd', 0).Metric(buckets=[1])", "only histograms have them"),
        ("pb_utils.MetricFamily('c', 'd', 0).Metric().increment(-1)", "numbers from 0"),
        ("pb_utils.MetricFamily('c', 'd', 0).Metric().set(1)", "only gauges can"),
        ("pb_utils.MetricFamily('c', 'd', 0).Metric().observe(1)", "only histograms can"),
    ],
)
def test_a_metric_refuses_what_its_kind_does_not_offer(use: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(errors.InternalError, match=text):
        run(tmp_path, f"def execute(self, requests):\n    {use}")
