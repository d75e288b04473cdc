// SPDX-License-Identifier: Apache-2.0
//! What every path means.

use super::*;

fn target(name: &'static str, version: Option<&'static str>) -> Target<'static> {
    Target { name, version }
}

#[test]
fn every_path_means_one_thing() {
    let table = [
        ("/v2", Some(Route::ServerMetadata)),
        ("/v2/", Some(Route::ServerMetadata)),
        ("/v2/health/live", Some(Route::ServerLive)),
        ("/v2/health/ready", Some(Route::ServerReady)),
        ("/v2/health/ready/", None),
        ("/v2/models/stats", Some(Route::ModelStatistics(None))),
        (
            "/v2/models/m",
            Some(Route::ModelMetadata(target("m", None))),
        ),
        ("/v2/models/m/", None),
        ("/v2/models//infer", None),
        (
            "/v2/models/a%20b",
            Some(Route::ModelMetadata(target("a%20b", None))),
        ),
        (
            "/v2/models/m/infer",
            Some(Route::ModelInfer(target("m", None))),
        ),
        (
            "/v2/models/m/versions/01/infer",
            Some(Route::ModelInfer(target("m", Some("01")))),
        ),
        (
            "/v2/models/m/versions/3",
            Some(Route::ModelMetadata(target("m", Some("3")))),
        ),
        ("/v2/models/m/versions/3/", None),
        ("/v2/models/m/versions/x/infer", None),
        ("/v2/models/m/versions//infer", None),
        ("/v2/models/m/versions", None),
        (
            "/v2/models/m/config",
            Some(Route::ModelConfig(target("m", None))),
        ),
        (
            "/v2/models/m/stats",
            Some(Route::ModelStatistics(Some(target("m", None)))),
        ),
        ("/v2/models/m/infer/more", None),
        (
            "/v2/models/m/generate",
            Some(Route::Generate(target("m", None))),
        ),
        (
            "/v2/models/m/versions/2/generate_stream",
            Some(Route::GenerateStream(target("m", Some("2")))),
        ),
        ("/v2/models/m/generate/stream", None),
        ("/v2/repository/index", Some(Route::RepositoryIndex)),
        ("/v2/logging", Some(Route::LogSettings)),
        ("/v2/logging/", None),
        ("/v2/trace/setting", Some(Route::TraceSettings(None))),
        (
            "/v2/models/m/trace/setting",
            Some(Route::TraceSettings(Some(target("m", None)))),
        ),
        ("/v2/models/m/versions/1/trace/setting", None),
        ("/v2/models/m/trace", None),
        ("/v2/models/m/trace/setting/more", None),
        ("/v2/repository/r/index", Some(Route::RepositoryIndex)),
        ("/v2/repository//index", None),
        (
            "/v2/systemsharedmemory/status",
            Some(Route::SharedMemory(Device::System, Ask::Status, None)),
        ),
        (
            "/v2/cudasharedmemory/region/r/register",
            Some(Route::SharedMemory(Device::Cuda, Ask::Register, Some("r"))),
        ),
        (
            "/v2/systemsharedmemory/unregister",
            Some(Route::SharedMemory(Device::System, Ask::Unregister, None)),
        ),
        ("/v2/systemsharedmemory/register", None),
        ("/v2/systemsharedmemory/region//status", None),
        ("/v2/systemsharedmemory/region/r", None),
        ("/v2/systemsharedmemory", None),
        (
            "/v2/repository/models/m/load",
            Some(Route::RepositoryModel(true, "m", None)),
        ),
        (
            "/v2/repository/r/models/m/unload",
            Some(Route::RepositoryModel(false, "m", Some("r"))),
        ),
        ("/v2/repository/models//load", None),
        ("/v2/repository/models/m/load/", None),
        ("/v2/repository/models/m/n/load", None),
        ("/v2/repository/models/m/keep", None),
        ("/v2/models", Some(Route::AllMetadata)),
        ("/v2/models/", None),
        (
            "/v1/models/m",
            Some(Route::V1(V1::ModelReady(target("m", None)))),
        ),
        ("/v1", None),
        ("/graphs", Some(Route::Graphs)),
        ("/graphs/", None),
        ("/graphs/a/", None),
        ("/graphs//b", None),
        ("/graphsa", None),
        ("", None),
    ];
    for (path, route) in table {
        assert_eq!(Route::of(path), route, "{path}");
    }
}

#[test]
fn a_graph_is_changed_at_its_own_path_and_asked_below() {
    let words = |path: &'static str, method: &str| {
        let (kind, named) = match Route::of(path)?.by(&method.parse().unwrap()) {
            Route::Graph(named) => ("ask", named),
            Route::GraphReady(named) => ("ready", named),
            Route::GraphChange(named) => ("change", named),
            _ => return None,
        };
        Some((kind, named.namespace, named.name))
    };
    for (path, method, expected) in [
        ("/graphs/g", "POST", ("ask", "default", "g")),
        ("/graphs/g", "PUT", ("change", "default", "g")),
        ("/graphs/n/g", "POST", ("ask", "n", "g")),
        ("/graphs/n/g", "PUT", ("change", "n", "g")),
        ("/graphs/n/g", "DELETE", ("change", "n", "g")),
        ("/graphs/n/g/", "DELETE", ("ask", "n", "g")),
        ("/graphs/n/g/v2/models/m/infer", "POST", ("ask", "n", "g")),
        ("/graphs/n/g/x", "PUT", ("ask", "n", "g")),
        ("/graphs/n/g/readyz", "GET", ("ready", "n", "g")),
        ("/graphs/n/g/readyz/x", "GET", ("ask", "n", "g")),
    ] {
        assert_eq!(words(path, method), Some(expected), "{method} {path}");
    }
}

#[test]
fn a_step_asks_for_inference_and_nothing_else() {
    for path in [
        "/v1/models/m:predict",
        "/v1/models/m/versions/2:predict",
        "/v2/models/m/infer",
        "/v2/models/m/versions/2/infer?x=1",
        "/graphs/n/g",
        "/graphs/g",
    ] {
        assert!(Route::of_step(path).is_some(), "{path}");
    }
    for path in [
        "/v1/models/m",
        "/v1/models/m:explain",
        "/v2/models/m",
        "/v2/models/m/generate",
        "/v2/repository/models/m/unload",
        "/v2/logging",
        "/graphs",
        "/metrics",
        "/",
    ] {
        assert_eq!(Route::of_step(path), None, "{path}");
    }
}
