# SPDX-License-Identifier: Apache-2.0
"""KServe's resources, running on this machine without a cluster.

    components    an InferenceService -> the processes it needs (pure; `containers`, `stand_ins`)
    lifeline      what to do next about one process: probe, restart, kill (pure)
    rollout       which revision of a component runs, which serves (pure)
    supervisor    does what those two decide, with real processes (`processes`, `logs`)
    tenants       a model in another component's process (`hosts`, `housing`, `sharing`, `trained`)
    storage       where a model lies here, or how it gets here (`credentials`, `fetching`)
    routes        what the gateway is told (`sidecars`, `graphs`); `front` is that gateway
    hosted_graphs which graphs a shared process runs itself
    status        conditions and `modelStatus`, in KServe's words (pure)
    database      what was applied, in SQLite
    daemon        all of it together; `api` and `client` are the two ends of its socket

What a resource means is decided in `nerite.kserve`; no command line is read here.
"""
