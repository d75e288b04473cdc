// SPDX-License-Identifier: Apache-2.0
//! Every route and every call, in front of the guard.

use hyper::{Method, Request};
use nerite_logic::Code;

use super::super::doors::Hosted;
use super::super::{Ask, Device, Target, V1};
use super::*;

const MODEL: Target<'static> = Target {
    name: "m",
    version: None,
};
const HOSTED: Hosted<'static> = Hosted {
    hash: "m",
    target: None,
};

/// The route after another one: a new variant does not compile before it has its place here.
fn next_route(route: Option<Route<'static>>) -> Option<Route<'static>> {
    Some(match route {
        None => Route::ServerLive,
        Some(Route::ServerLive) => Route::ServerReady,
        Some(Route::ServerReady) => Route::ServerMetadata,
        Some(Route::ServerMetadata) => Route::AllMetadata,
        Some(Route::AllMetadata) => Route::V1(V1::Alive),
        Some(Route::V1(V1::Alive)) => Route::V1(V1::Models),
        Some(Route::V1(V1::Models)) => Route::V1(V1::ModelReady(MODEL)),
        Some(Route::V1(V1::ModelReady(_))) => Route::V1(V1::Predict(MODEL)),
        Some(Route::V1(V1::Predict(_))) => Route::V1(V1::Explain(MODEL)),
        Some(Route::V1(V1::Explain(_))) => Route::OpenApi,
        Some(Route::OpenApi) => Route::Graphs,
        Some(Route::Graphs) => Route::of_graphs("/graphs/n/g")?,
        Some(Route::Graph(_)) => Route::of_graphs("/graphs/n/g/readyz")?.by(&Method::GET),
        Some(Route::GraphReady(_)) => Route::of_graphs("/graphs/n/g")?.by(&Method::PUT),
        Some(Route::GraphChange(_)) => Route::Docs,
        Some(Route::Docs) => Route::ModelReady(MODEL),
        Some(Route::ModelReady(_)) => Route::ModelMetadata(MODEL),
        Some(Route::ModelMetadata(_)) => Route::ModelConfig(MODEL),
        Some(Route::ModelConfig(_)) => Route::ModelStatistics(None),
        Some(Route::ModelStatistics(None)) => Route::ModelStatistics(Some(MODEL)),
        Some(Route::ModelStatistics(Some(_))) => Route::ModelInfer(MODEL),
        Some(Route::ModelInfer(_)) => Route::Generate(MODEL),
        Some(Route::Generate(_)) => Route::GenerateStream(MODEL),
        Some(Route::GenerateStream(_)) => Route::RepositoryIndex,
        Some(Route::RepositoryIndex) => Route::RepositoryModel(true, "m", None),
        Some(Route::RepositoryModel(true, model, None)) => {
            Route::RepositoryModel(true, model, Some("r"))
        }
        Some(Route::RepositoryModel(true, model, Some(_))) => {
            Route::RepositoryModel(false, model, None)
        }
        Some(Route::RepositoryModel(false, model, None)) => {
            Route::RepositoryModel(false, model, Some("r"))
        }
        Some(Route::RepositoryModel(false, _, Some(_))) => Route::LogSettings,
        Some(Route::LogSettings) => Route::TraceSettings(None),
        Some(Route::TraceSettings(None)) => Route::TraceSettings(Some(MODEL)),
        Some(Route::TraceSettings(Some(_))) => {
            Route::SharedMemory(Device::System, Ask::Status, None)
        }
        Some(Route::SharedMemory(device, ask, None)) => Route::SharedMemory(device, ask, Some("r")),
        // There is no path on which to register all regions.
        Some(Route::SharedMemory(device, ask, Some(_))) => match next_ask((device, ask)) {
            Some((device, Ask::Register)) => Route::SharedMemory(device, Ask::Register, Some("r")),
            Some((device, ask)) => Route::SharedMemory(device, ask, None),
            None => Route::Metrics,
        },
        Some(Route::Metrics) => Route::SageMakerModels(None),
        Some(Route::SageMakerModels(None)) => Route::SageMakerModels(Some(HOSTED)),
        Some(Route::SageMakerModels(Some(_))) => return None,
    })
}

fn next_ask((device, ask): (Device, Ask)) -> Option<(Device, Ask)> {
    Some(match (device, ask) {
        (_, Ask::Status) => (device, Ask::Register),
        (_, Ask::Register) => (device, Ask::Unregister),
        (Device::System, Ask::Unregister) => (Device::Cuda, Ask::Status),
        (Device::Cuda, Ask::Unregister) => return None,
    })
}

fn ask_word(ask: Ask) -> &'static str {
    match ask {
        Ask::Status => "status",
        Ask::Register => "register",
        Ask::Unregister => "unregister",
    }
}

/// A path of each route; `None` and `Some("m")` are told apart by it too.
fn path_of(route: Route<'_>) -> String {
    let path = match route {
        Route::ServerLive => "/v2/health/live",
        Route::ServerReady => "/v2/health/ready",
        Route::ServerMetadata => "/v2",
        Route::AllMetadata => "/v2/models",
        Route::OpenApi => "/openapi.json",
        Route::Docs => "/docs",
        Route::Graphs => "/graphs",
        Route::Graph(_) | Route::GraphChange(_) => "/graphs/n/g",
        Route::GraphReady(_) => "/graphs/n/g/readyz",
        Route::V1(V1::Alive) => "/",
        Route::V1(V1::Models) => "/v1/models",
        Route::V1(V1::ModelReady(_)) => "/v1/models/m",
        Route::V1(V1::Predict(_)) => "/v1/models/m:predict",
        Route::V1(V1::Explain(_)) => "/v1/models/m:explain",
        Route::ModelReady(_) => "/v2/models/m/ready",
        Route::ModelMetadata(_) => "/v2/models/m",
        Route::ModelConfig(_) => "/v2/models/m/config",
        Route::ModelStatistics(None) => "/v2/models/stats",
        Route::ModelStatistics(Some(_)) => "/v2/models/m/stats",
        Route::ModelInfer(_) => "/v2/models/m/infer",
        Route::Generate(_) => "/v2/models/m/generate",
        Route::GenerateStream(_) => "/v2/models/m/generate_stream",
        Route::RepositoryIndex => "/v2/repository/index",
        Route::RepositoryModel(load, model, repository) => {
            let verb = if load { "load" } else { "unload" };
            let repository = repository.map_or_else(String::new, |name| format!("{name}/"));
            return format!("/v2/repository/{repository}models/{model}/{verb}");
        }
        Route::LogSettings => "/v2/logging",
        Route::TraceSettings(None) => "/v2/trace/setting",
        Route::TraceSettings(Some(_)) => "/v2/models/m/trace/setting",
        Route::SharedMemory(device, ask, region) => {
            let device = match device {
                Device::System => "system",
                Device::Cuda => "cuda",
            };
            let region = region.map_or_else(String::new, |name| format!("region/{name}/"));
            return format!("/v2/{device}sharedmemory/{region}{}", ask_word(ask));
        }
        Route::Metrics => "/metrics",
        Route::SageMakerModels(None) => "/models",
        Route::SageMakerModels(Some(_)) => "/models/m",
    };
    path.to_owned()
}

/// The call after another one, as [`next_route`].
fn next_rpc(rpc: Option<Rpc>) -> Option<Rpc> {
    Some(match rpc {
        None => Rpc::ServerLive,
        Some(Rpc::ServerLive) => Rpc::ServerReady,
        Some(Rpc::ServerReady) => Rpc::ModelReady,
        Some(Rpc::ModelReady) => Rpc::ServerMetadata,
        Some(Rpc::ServerMetadata) => Rpc::ModelMetadata,
        Some(Rpc::ModelMetadata) => Rpc::ModelConfig,
        Some(Rpc::ModelConfig) => Rpc::ModelStatistics,
        Some(Rpc::ModelStatistics) => Rpc::ModelInfer,
        Some(Rpc::ModelInfer) => Rpc::ModelStreamInfer,
        Some(Rpc::ModelStreamInfer) => Rpc::RepositoryIndex,
        Some(Rpc::RepositoryIndex) => Rpc::RepositoryModelLoad,
        Some(Rpc::RepositoryModelLoad) => Rpc::RepositoryModelUnload,
        Some(Rpc::RepositoryModelUnload) => Rpc::HealthCheck,
        Some(Rpc::HealthCheck) => Rpc::HealthWatch,
        Some(Rpc::HealthWatch) => Rpc::Reflection,
        Some(Rpc::Reflection) => Rpc::LogSettings,
        Some(Rpc::LogSettings) => Rpc::TraceSetting,
        Some(Rpc::TraceSetting) => Rpc::SharedMemory(Device::System, Ask::Status),
        Some(Rpc::SharedMemory(device, ask)) => {
            let (device, ask) = next_ask((device, ask))?;
            Rpc::SharedMemory(device, ask)
        }
    })
}

fn routes() -> impl Iterator<Item = Route<'static>> {
    std::iter::successors(next_route(None), |route| next_route(Some(*route)))
}

fn rpcs() -> impl Iterator<Item = Rpc> {
    std::iter::successors(next_rpc(None), |rpc| next_rpc(Some(*rpc)))
}

fn rpc_path(rpc: Rpc) -> String {
    match rpc {
        Rpc::HealthCheck => "/grpc.health.v1.Health/Check".to_owned(),
        Rpc::HealthWatch => "/grpc.health.v1.Health/Watch".to_owned(),
        Rpc::Reflection => "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned(),
        Rpc::SharedMemory(device, ask) => {
            format!("/inference.GRPCInferenceService/{device:?}SharedMemory{ask:?}")
        }
        other => format!("/inference.GRPCInferenceService/{other:?}"),
    }
}

fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// The method by which a route is sent in place of `method`: a graph is changed by others than those two.
fn sent_by(route: Route<'_>, method: &'static str) -> &'static str {
    match (route, method) {
        (Route::GraphChange(_), "GET") => "DELETE",
        (Route::GraphChange(_), _) => "PUT",
        _ => method,
    }
}

fn port_of(route: Route<'_>) -> Protocol {
    match route {
        Route::Metrics => Protocol::Metrics,
        Route::SageMakerModels(_) => Protocol::SageMaker,
        _ => Protocol::Http,
    }
}

/// A guard whose keys are named, and are, after their scopes; `limited` is for models `a*` only.
fn keyed() -> Guard {
    let guard = Guard::default();
    let entry = |name: &str, scopes: &str, models: &str| {
        let digest = digest_of(name);
        format!(
            r#"{{"name":"{name}","sha256":"{digest}","scopes":[{scopes}],"models":["{models}"]}}"#
        )
    };
    let all = [
        entry("infer", "\"infer\"", "*"),
        entry("manage", "\"manage\"", "*"),
        entry("metrics", "\"metrics\"", "*"),
        entry("limited", "\"infer\",\"manage\"", "a*"),
    ];
    guard.set_keys(Keys::from_json(&format!("[{}]", all.join(","))).unwrap());
    guard
}

/// SHA-256 of the names that are keys here.
fn digest_of(key: &str) -> &'static str {
    match key {
        "infer" => "92bc2e412115876270c842f18eede00e752babbb9bf6f402ee8c5ab3b6746af2",
        "manage" => "181229424893bb65d94a74c2132b8b9e5adfe851464fdb5cb9f49e8a8204be7b",
        "metrics" => "177a7ea3611fe6b138557deaf44941614b66c0ece1766308044c8b65c8ba2123",
        _ => "7b508dace774f8adc1b121c1812b740904be6dfd37e3b5e3579bc81fbf6f5553",
    }
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

fn code(refused: Refused) -> Option<Code> {
    match refused {
        Refused::Error(error) => Some(error.code),
        _ => None,
    }
}

#[test]
fn every_route_is_at_its_path_and_guarded() {
    let guard = keyed();
    for route in routes() {
        let path = path_of(route);
        for method in ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"] {
            let plain = head(method, &path, &[]);
            let told = guard.admit(&plain, port_of(route), Peer::Loopback);
            match route.need(method != "GET") {
                Need::Nothing => match told {
                    Ok(permit) => assert_eq!(permit.route(), route),
                    Err(why) => assert_eq!(why, Refused::Method, "{method} {path}"),
                },
                _ => assert_eq!(
                    told.map(drop).map_err(code),
                    Err(Some(Code::Unauthenticated)),
                    "{method} {path}"
                ),
            }
        }
    }
}

#[test]
fn every_call_is_at_its_path_and_guarded() {
    let guard = keyed();
    for rpc in rpcs() {
        let plain = head("POST", &rpc_path(rpc), &[]);
        match (rpc.need(false), guard.enter(&plain, Peer::Loopback)) {
            (Need::Nothing, Ok(entered)) => assert_eq!(entered.rpc(), rpc),
            (_, Err(why)) => assert_eq!(why.code, Code::Unauthenticated, "{rpc:?}"),
            (_, Ok(_)) => panic!("{rpc:?} is not guarded"),
        }
    }
}

#[test]
fn each_need_is_met_by_the_keys_that_have_it_and_no_other() {
    let guard = keyed();
    for route in routes() {
        let need = |writes| match route.need(writes) {
            Need::Nothing | Need::AnyKey => "any",
            Need::Scope(scope) => scope.name(),
        };
        for (key, method) in ["infer", "manage", "metrics"]
            .into_iter()
            .flat_map(|key| [(key, "GET"), (key, "POST")])
        {
            let method = sent_by(route, method);
            let shown = bearer(key);
            let sent = head(method, &path_of(route), &[("authorization", &shown)]);
            let told = guard.admit(&sent, port_of(route), Peer::Elsewhere);
            let needed = need(method != "GET");
            let denied = needed != "any" && needed != key;
            let got = told.map(drop).map_err(code);
            assert_eq!(
                got == Err(Some(Code::PermissionDenied)),
                denied,
                "{key} {route:?}"
            );
        }
    }
}

#[test]
fn only_health_is_open_and_only_management_is_for_whoever_is_near() {
    let guard = Guard::default();
    let mut open = Vec::new();
    for route in routes() {
        if route.need(true) == Need::Nothing {
            open.push(path_of(route));
        }
        for method in ["GET", "POST"].map(|method| sent_by(route, method)) {
            let manages = route.need(method != "GET") == Need::Scope(Scope::Manage);
            let near = head(method, &path_of(route), &[]);
            let told = |peer, head: &Parts| {
                let told = guard.admit(head, port_of(route), peer);
                told.map(drop).map_err(code)
            };
            assert_ne!(
                told(Peer::Loopback, &near),
                Err(Some(Code::PermissionDenied))
            );
            let refused = told(Peer::Elsewhere, &near) == Err(Some(Code::PermissionDenied));
            assert_eq!(refused, manages, "{method} {route:?}");
            for relay in RELAYED {
                let relayed = head(method, &path_of(route), &[(relay, "10.0.0.1")]);
                let refused = told(Peer::Loopback, &relayed) == Err(Some(Code::PermissionDenied));
                assert_eq!(refused, manages, "{relay} {method} {route:?}");
            }
        }
    }
    let health = [
        "/v2/health/live",
        "/v2/health/ready",
        "/",
        "/v1/models/m",
        "/graphs/n/g/readyz",
        "/docs",
        "/v2/models/m/ready",
    ];
    assert_eq!(open, health);
}

#[test]
fn management_over_grpc_is_told_by_its_message() {
    let (read, write) = (&b""[..], &b"\x0a\x02\x0a\x00"[..]);
    for rpc in [Rpc::LogSettings, Rpc::TraceSetting] {
        for (peer, message, admitted) in [
            (Peer::Loopback, read, true),
            (Peer::Loopback, write, true),
            (Peer::Elsewhere, read, true),
            (Peer::Elsewhere, write, false),
        ] {
            let guard = Guard::default();
            let entered = guard
                .enter(&head("POST", &rpc_path(rpc), &[]), peer)
                .unwrap();
            let told = entered.admit(Bytes::from_static(message));
            let got = told.map(drop).map_err(|why| why.code);
            let expect = if admitted {
                Ok(())
            } else {
                Err(Code::PermissionDenied)
            };
            assert_eq!(got, expect, "{rpc:?} {peer:?} {message:?}");
            let remote = Guard::new(&[], &[], true);
            let entered = remote
                .enter(&head("POST", &rpc_path(rpc), &[]), peer)
                .unwrap();
            assert!(entered.admit(Bytes::from_static(message)).is_ok());
        }
    }
}

#[test]
fn calls_that_manage_are_for_whoever_is_near_before_their_message_is_read() {
    for rpc in rpcs().filter(|rpc| rpc.need(false) == Need::Scope(Scope::Manage)) {
        let path = rpc_path(rpc);
        let told = |guard: &Guard, peer, headers: &[(&str, &str)]| {
            let told = guard.enter(&head("POST", &path, headers), peer);
            told.map(drop).map_err(|why| why.code)
        };
        let guard = Guard::default();
        let refused = Err(Code::PermissionDenied);
        assert_eq!(told(&guard, Peer::Loopback, &[]), Ok(()), "{rpc:?}");
        assert_eq!(told(&guard, Peer::Elsewhere, &[]), refused, "{rpc:?}");
        for relay in RELAYED {
            let relayed = [(relay, "10.0.0.1")];
            assert_eq!(told(&guard, Peer::Loopback, &relayed), refused, "{rpc:?}");
        }
        let remote = Guard::new(&[], &[], true);
        assert_eq!(told(&remote, Peer::Elsewhere, &[]), Ok(()), "{rpc:?}");
    }
}

#[test]
fn a_key_for_some_models_reaches_no_other_by_any_call() {
    let guard = keyed();
    let shown = bearer("limited");
    for rpc in rpcs() {
        let sent = head("POST", &rpc_path(rpc), &[("authorization", &shown)]);
        let Ok(entered) = guard.enter(&sent, Peer::Elsewhere) else {
            panic!("{rpc:?}");
        };
        let Some(field) = rpc.model_field() else {
            continue;
        };
        let tag = u8::try_from(field << 3 | 2).unwrap();
        let named = |names: &[&[u8]]| {
            let each = names.iter().map(|name| [&[tag, 1], *name].concat());
            Bytes::from(each.collect::<Vec<_>>().concat())
        };
        let admitted = |message| entered.admit(message).is_ok();
        assert!(admitted(named(&[b"a"])), "{rpc:?}");
        assert!(admitted(named(&[b"b", b"a"])), "{rpc:?}");
        let open = rpc.need(false) == Need::Nothing;
        assert_eq!(admitted(named(&[b"b"])), open, "{rpc:?}");
        assert_eq!(admitted(named(&[b"a", b"b"])), open, "{rpc:?}");
    }
    for route in routes() {
        let sent = head(
            route.method(),
            &path_of(route),
            &[("authorization", &shown)],
        );
        let told = guard.admit(&sent, port_of(route), Peer::Elsewhere);
        let closed =
            route.need(false) != Need::Nothing && matches!(route.subject(), Subject::Model(_));
        if closed {
            assert_eq!(
                told.map(drop).map_err(code),
                Err(Some(Code::PermissionDenied))
            );
        } else if let Ok(permit) = told {
            let open = route.need(false) == Need::Nothing;
            assert_eq!(permit.sight().sees("b"), open, "{route:?}");
        }
    }
}

#[test]
fn odd_forms_of_a_path_are_not_a_way_around() {
    let guard = keyed();
    for path in [
        "/v2/",
        "/V2/models/m/infer",
        "/v2//models/m/infer",
        "/v2/models/m/infer/",
        "/v2/models/m/../m/infer",
        "/v2/models/%6d/infer",
        "/v2/models/m/infer%2f",
        "/v2/health/live/../../logging",
        "/v2/health/live%00",
        "/v2/models/m/infer/ready",
        "/v2/models/logging/ready/",
        "http://other/v2/models/m/infer?/v2/health/live",
        "//v2/health/live",
        "/metrics",
        "//",
        "/docs/",
        "/openapi.json/",
        "/v1/models/m:predict/",
        "/v1/models/m/:predict",
        "/V1/models/m:predict",
        "//v1/models/m",
        "/v1/models/m:predict?/v1/models/m",
        "*",
    ] {
        for method in ["GET", "POST", "OPTIONS"] {
            let plain = head(method, &path, &[]);
            let told = guard.admit(&plain, Protocol::Http, Peer::Loopback);
            let got = told.map(drop).map_err(code);
            assert_eq!(got, Err(Some(Code::Unauthenticated)), "{method} {path}");
        }
    }
    for path in [
        "/inference.GRPCInferenceService/modelinfer",
        "/inference.grpcinferenceservice/ModelInfer",
        "/inference.GRPCInferenceService/ModelInfer/",
        "//inference.GRPCInferenceService/ModelInfer",
        "/grpc.health.v1.Health/watch",
        "/grpc.health.v1.Health/Watch/",
        "/grpc.reflection.v1alpha.ServerReflection/",
        "/grpc.reflection.v2.ServerReflection/ServerReflectionInfo",
        "/grpc.health.v1.Health/Check/",
        "/v2/health/live",
    ] {
        let told = guard.enter(&head("POST", path, &[]), Peer::Loopback);
        let got = told.map(drop).map_err(|why| why.code);
        assert_eq!(got, Err(Code::Unauthenticated), "{path}");
    }
}

#[test]
fn the_order_is_key_route_restriction_scope_method() {
    let group = r#"[{"categories":["metadata"],"header":"k2","value":"v2"}]"#;
    let groups: Vec<Group> = serde_json::from_str(group).unwrap();
    let guard = Guard::new(&groups, &groups, false);
    let told = |method, path, headers: &[(&str, &str)]| {
        let head = head(method, path, headers);
        let told = guard.admit(&head, Protocol::Http, Peer::Elsewhere);
        told.map(drop)
    };
    let restricted = Error::new(
        Code::PermissionDenied,
        "This API is restricted, expecting header 'k2'",
    );
    assert_eq!(told("DELETE", "/v2", &[]), Err(restricted.clone().into()));
    assert_eq!(told("DELETE", "/v2", &[("k2", "v2")]), Err(Refused::Method));
    assert_eq!(told("GET", "/v2", &[("K2", "v2")]), Ok(()));
    assert_eq!(told("GET", "/v2/nothing", &[]), Err(Refused::NoRoute));
    assert_eq!(told("GET", "/v2/models/m/config", &[]), Ok(()));
    let key = r#"[]"#;
    guard.set_keys(Keys::from_json(key).unwrap());
    for path in ["/v2", "/v2/nothing"] {
        let got = told("DELETE", path, &[("k2", "v2")]).map_err(code);
        assert_eq!(got, Err(Some(Code::Unauthenticated)));
    }
    let metadata = rpc_path(Rpc::ServerMetadata);
    let guard = Guard::new(&groups, &groups, false);
    let why = guard
        .enter(&head("POST", &metadata, &[]), Peer::Loopback)
        .unwrap_err();
    let text = "This protocol is restricted, expecting header 'k2'";
    assert_eq!(why, Error::new(Code::PermissionDenied, text));
}

#[test]
fn a_peer_is_near_if_it_comes_from_loopback_however_that_is_written() {
    for (address, near) in [
        ("127.0.0.1:1", true),
        ("127.9.9.9:1", true),
        ("[::1]:1", true),
        ("[::ffff:127.0.0.1]:1", true),
        ("10.0.0.1:1", false),
        ("[::ffff:10.0.0.1]:1", false),
        ("[fe80::1]:1", false),
        ("0.0.0.0:1", false),
    ] {
        let peer = Peer::at(Some(address.parse().unwrap()));
        assert_eq!(peer == Peer::Loopback, near, "{address}");
    }
    assert_eq!(Peer::at(None), Peer::Elsewhere);
}
