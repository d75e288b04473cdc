# SPDX-License-Identifier: Apache-2.0
"""Server CPU per request of Nerite, the real Triton and a floor, taken in one run.

`__main__` runs the parts in this order: `options` (what was asked), `prepare` (what the machine
has), `servers` (start one, pinned to a core), `answers` (is it right?), `wrk` or `h2load` (load
it from another core), `cpu` (what it cost), `report` (the table and the JSON file).
"""
