# SPDX-License-Identifier: Apache-2.0
"""KServe's resources, read and decided upon without a cluster.

    documents     YAML in, plain objects with the line of every key out
    resources     what each kind may hold (`pods`: the parts that are Kubernetes' own)
    admission     refuse or default, as KServe's webhooks do (`service_rules`, `runtime_rules`, ...)
    selection     which ServingRuntime an InferenceService gets, and why not the others
    rendering     runtime + service -> containers (`merging`, `templates`, `server_types`, `images`)
    storage_paths where a model comes from and where it appears in the container
    export        Nerite itself as runtimes for a cluster
    explain       all of it for one set of files, as `nerite explain` prints it
    graphs        InferenceGraphs as components of the gateway
    gateway       one port in front of services that run, by the table of their routes

All but the gateway are pure functions of the objects they are given: no process is started, nothing
is fetched.
"""
