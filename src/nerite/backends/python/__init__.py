# SPDX-License-Identifier: Apache-2.0
"""Models written as `model.py` in Triton's format, run in this process.

`backend` runs them, `modules` imports them so that two models never see each other's files,
`failures` words their exceptions as Triton does. What models import as
`triton_python_backend_utils` is `shim`, made of `messages` (requests and responses), `tensor`,
`logger` and `model_config`.
"""
