# SPDX-License-Identifier: Apache-2.0
"""Which models are live: scan, load, run, unload.

`repository` finds models, `lifecycle` takes each from its folder to being served and back,
`instance` is the thread that runs one instance, `states` is what the index tells. Sockets and
queues are the data plane's (`nerite._core`); how a model computes is its backend's.
"""
