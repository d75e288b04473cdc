# SPDX-License-Identifier: Apache-2.0
"""Files that a configuration names lie below the folder that such files belong in."""

from __future__ import annotations

from pathlib import Path

import pytest

from nerite.config import Request, examine

IO = """backend: "identity" max_batch_size: 4
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
"""
OUTPUT = 'output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] %s }\n'
NAMES = ["../../secret", "/etc/passwd", "a/../../secret", "..", "a\\0b", "out/secret"]
FIELDS = {
    "default_model_filename": 'default_model_filename: "%s"',
    "cc_model_filenames[7.5]": 'cc_model_filenames { key: "7.5" value: "%s" }',
    "output[0].label_filename": 'label_filename: "%s"',
    "model_warmup[0].inputs[X].input_data_file": (
        'model_warmup { name: "s" batch_size: 1 inputs { key: "X" value { '
        'data_type: TYPE_FP32 dims: [ 1 ] input_data_file: "%s" } } }'
    ),
    "sequence_batching.state[0].initial_state[0].data_file": (
        'sequence_batching { state { input_name: "I" output_name: "O" data_type: TYPE_FP32 '
        'dims: [ 1 ] initial_state { name: "z" data_type: TYPE_FP32 dims: [ 1 ] '
        'data_file: "%s" } } }'
    ),
}


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (field, name)
        for field in FIELDS
        for name in NAMES
        # A version may be a link as a whole, and so what lies in it is the operator's.
        if name != "out/secret" or "model_filename" not in field
    ],
)
def test_a_name_that_leads_out_is_refused(field: str, name: str, tmp_path: Path) -> None:
    """Also through a link, and with a byte that ends names for the system, which once came out as
    an error of Python's."""
    folder = tmp_path / "m"
    for below in ("1", "warmup", "initial_state"):
        (folder / below).mkdir(parents=True)
        (folder / below / "out").symlink_to(tmp_path)
    (folder / "out").symlink_to(tmp_path)
    (tmp_path / "secret").write_bytes(b"\0" * 64)
    text = FIELDS[field] % name
    inside, beside = (text, "") if "label" in field else ("", text)
    (folder / "config.pbtxt").write_text(IO + OUTPUT % inside + beside)
    told = {problem.key: problem for problem in examine(folder, Request()).problems}
    assert field in told
    assert "m" in told[field].message
    assert told[field].line
