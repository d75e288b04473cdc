# SPDX-License-Identifier: Apache-2.0
"""Measurements of Nerite beside its peers: `python -m benches.load`, `python -m benches.scale`.

Nothing in `src` imports this room, and nothing here is shipped. How each figure is taken, and
the figures themselves, are in `benches/README.md`; raw results lie in `benches/results/`.
"""
