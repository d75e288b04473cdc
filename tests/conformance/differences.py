# SPDX-License-Identifier: Apache-2.0
"""Where Nerite does better than Triton 2.51 did. Everywhere else it answers as was recorded.

The list cannot rot: each case of it must give the better answer that stands beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.conformance.vectors import Case

_WRONG_FORM = "client error answered 500"

#: What is answered instead: the status and a part of the text. Where two themes have a case of one
#: name, the theme stands before it.
MENDED: Final[Mapping[str, tuple[int | str, str]]] = {
    "ca_other_outputs": (200, '"outputs":[{"name":"OUTPUT1"'),
    "cl_zero": (400, "class result not available for output 'OUTPUT0' of model 'id_nb'"),
    "g_health_watch": ("OK", "CAE="),
    "g_unknown_service": ("UNIMPLEMENTED", "unknown method /other.Service/Nothing"),
    "ge_decoupled_three": (400, "generate expects model to produce exactly 1 response"),
    "ge_decoupled_zero": (400, "generate expects model to produce exactly 1 response"),
    "gi_bytes_trunc": ("INVALID_ARGUMENT", "incomplete string data for inference input"),
    "gi_missing_required": ("INVALID_ARGUMENT", "but missing required input(s) ['A']"),
    "gi_raw_surplus": ("INVALID_ARGUMENT", "has 1 more raw_input_contents than inputs"),
    "grs_index": (
        "PERMISSION_DENIED",
        "This protocol is restricted, expecting header 'triton-grpc-protocol-k1'",
    ),
    "grs_stream": (
        "PERMISSION_DENIED",
        "This protocol is restricted, expecting header 'triton-grpc-protocol-k3'",
    ),
    "gst_dec": ("OK", "response_stats"),
    "gs_out_small": (
        "INVALID_ARGUMENT",
        "(4 bytes) should be at least 8 bytes to hold the results",
    ),
    "gi_typed_uint8_over": ("INVALID_ARGUMENT", "is out of range for datatype 'UINT8'"),
    "generate/gs_missing": (400, "but missing required input(s) ['text_input']"),
    "gr_broken": ("INVALID_ARGUMENT", "from model repository: Invalid argument: failed to read"),
    "gr_config_bad": ("INVALID_ARGUMENT", "failed to read JSON from <config override>:1:2"),
    "gr_unknown": ("NOT_FOUND", "failed to unload 'nosuch': there is no model of that name"),
    "hm_get28_onx2": (200, '"inputs":[{"name":"A"'),
    "ib_bytes_trunc": (400, "incomplete string data for inference input 'INPUT0'"),
    "ib_json_out_fp16": (200, '"data":[1.5,0.0,-2.0]'),
    "ij_ens": (200, '{"model_name":"ens","model_version":"1","outputs":[{"name":"EO"'),
    "ij_type_fp16": (200, '"data":[1.5,0.0,-1.0]'),
    "ib_hl_float": (400, "Unable to parse Inference-Header-Content-Length, got: 12.5"),
    "ib_hl_text": (400, "Unable to parse Inference-Header-Content-Length, got: x"),
    "ie_extra_input": (400, "Got input(s) ['INPUT0','ZZ'], but missing required input(s) []"),
    "ie_py_none": (500, "Expected a list in the execute return, found type"),
    "ie_py_wrong_name": (500, "model 'err' returned output 'NOPE'"),
    "ie_py_wrong_shape": (500, "output 'OUT' of model 'err' has shape [3]"),
    "ie_shape_huge": (400, "byte size overflow for input 'INPUT0' for model 'id_nb'"),
    "ij_val_int32_over": (400, "value 3000000000 of input 'INPUT0' for model 't_int32'"),
    "ij_val_uint8_over": (400, "value 256 of input 'INPUT0' for model 't_uint8'"),
    "lg_bad_json": (400, "failed to parse the request JSON buffer: Expecting property name"),
    "me_model_errors": (200, 'nv_inference_request_success{model="err",version="1"} 1'),
    "me_unload": (200, 'nv_inference_request_success{model="id_fp32",version="1"} 0'),
    "me_validation_errors": (200, 'model="id_fp32",version="1",reason="OTHER"} 2'),
    "pm_00_get": (200, '{"status":"alive"}'),
    "pm_17_get": (200, '{"models":[{"name":'),
    "pm_metrics_root": (404, "Not Found"),
    "sm_in_offset_page": (200, '"data":[6.0,7.0]'),
    "sm_register_offset": (200, '[{"name":"a","key":"/nv_a","offset":16,"byte_size":16}]'),
    "re_config_bad_json": (200, '"reason":"Invalid argument: failed to read JSON from <config'),
    "re_config_empty": (400, "failed to read JSON from <config override>:1:1: Expecting value"),
    "re_config_name": (400, "directory name must equal model name"),
    "re_config_new_model": (
        404,
        "failed to load 'newmodel', failed to poll from model repository",
    ),
    "re_config_unknown_field": (400, "has no field named"),
    "re_file": (200, '"data":[1.0,2.0,3.0,4.0]'),
    "re_file_escape": (400, "file '../x/model.onnx' of model 'fresh' is not a path inside"),
    "re_file_version5": (200, '"model_version":"5"'),
    "re_load_broken": (200, "config.pbtxt:2:1: Message type"),
    "re_load_ens": (200, '{"model_name":"ens","model_version":"1","outputs":[{"name":"EO"'),
    "re_load_noversions": (200, '{"name":"noversions","state":"UNAVAILABLE","reason":"Invalid'),
    "re_name_blank": (404, "no model repository has a model '%20'"),
    "re_name_encoded": (404, "no model repository has a model 'a%2Fb'"),
    "re_removed_folder": (200, '"data":[1.0,2.0]'),
    "re_unload_unknown": (404, "failed to unload 'nosuch': there is no model of that name"),
    "rn_index_bad": (400, "failed to parse the request JSON buffer: Expecting property name"),
    "rn_load": (503, "is not allowed if the model control mode is none"),
    "rp_break": (200, '"data":[1.0,2.0]'),
    "rw_bad_version": (400, ""),
    "rw_chunk_bad": (400, "request body ended early or is framed wrongly"),
    "rw_header_space": (400, ""),  # RFC 9112 wants it refused: proxies differ on what it means
    "rw_length_text": (400, ""),
    "rw_lf_only": (200, ""),
    "rw_long_header": (200, ""),
    "rw_long_path": (404, "Request for unknown model: 'mmmm"),
    "sx_decoupled": (200, '"response_stats":{"0":{"compute_infer":{"count":4'),
    "st_ens": ("OK", '"parameters": {"triton_final_response": {"bool_param": true}}, "outputs"'),
    "sx_ensemble": (200, '"inference_count":4,"execution_count":2,'),
    "sx_errors": (200, '"success":{"count":1'),
    "sx_queue": (200, '"fail":{"count":2'),
}


def is_mended(case: Case) -> bool:
    """Whether something better than the recorded answer is promised."""
    return _mended_key(case) in MENDED


def _mended_key(case: Case) -> str:
    qualified = f"{case.theme}/{case.id}"
    return qualified if qualified in MENDED else case.id


def answers_wrong_form(case: Case) -> bool:
    """Whether Triton blames itself for a client's mistake: here the same text has status 400."""
    return case.defect == _WRONG_FORM and not is_mended(case)


def blamed_on_the_client(step: Mapping[str, Any]) -> Mapping[str, Any]:
    """A recorded step with the right status, if it was one in which Triton blamed itself."""
    if step.get("expect", {}).get("status") != 500:
        return step
    return {**step, "expect": {**step["expect"], "status": 400}}


def mended_difference(case: Case, answers: Sequence[Mapping[str, Any]]) -> str:
    """What differs from the better answer that is promised in `MENDED`; some step must give it."""
    status, part = MENDED[_mended_key(case)]
    told = []
    for answer in answers:
        got = answer.get("status", answer.get("code"))
        message = answer.get("response", answer.get("responses"))
        text = answer.get("body") or answer.get("details") or json.dumps(message)
        if got == status and part in text:
            return ""
        told.append(f"{got} with {text!r}")
    return f"promised {status} with {part!r}, got {'; '.join(told)}"
