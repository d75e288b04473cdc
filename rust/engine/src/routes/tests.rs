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
        ("", None),
    ];
    for (path, route) in table {
        assert_eq!(Route::of(path), route, "{path}");
    }
}
