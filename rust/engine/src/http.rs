// SPDX-License-Identifier: Apache-2.0
//! The v2 protocol over HTTP/1.1: what each route answers (`spec/triton.md` 1).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HeaderName, HeaderValue,
};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use nerite_logic::Error;
use nerite_logic::wire::compression::{Effort, Encoding};
use nerite_logic::wire::v2;
use serde::Serialize;
use smallvec::SmallVec;

use crate::access_log::RequestId;
use crate::body::ReplyBody;
use crate::connection::Protocol;
use crate::failure::Failure;
use crate::graph::hosted;
use crate::metadata::{Model, ModelStatistics, Server};
use crate::reading::{UNWANTED, discard};
use crate::request_body::{Arrived, arrive, read_body};
use crate::routes::doors::Dialect;
use crate::routes::guard::{Peer, Permit, Sight};
use crate::routes::{Ask, Route, Target, V1};
use crate::server::Shared;
use crate::trace::{Point, Traced, mark};
use crate::version::Version;
use crate::{
    compression, generate, infer, metrics, openapi, repository, sagemaker, settings, shared_memory,
    v1,
};

/// An answer.
pub type Reply = Response<ReplyBody>;

/// The media type of most of them.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Where the JSON ends and binary tensors begin.
pub static HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// What a request is told that could be for either of two hosts (RFC 9112, 3.2).
pub const SEVERAL_HOSTS: &str = "the request has several Host headers; one is accepted";

/// Answers one request; never fails, every failure is an answer.
///
/// # Errors
/// None.
pub async fn answer(
    request: Request<Incoming>,
    protocol: Protocol,
    peer: Peer,
    shared: &Arc<Shared>,
) -> Result<Reply, Infallible> {
    // The path is borrowed from the head, the body is read apart from it.
    let (head, mut body) = request.into_parts();
    let (dialect, reply) = match shared.guard.admit(&head, protocol, peer) {
        Ok(permit) => (
            permit.dialect(),
            dispatch(permit, &head, &mut body, shared).await,
        ),
        Err(refused) => (Dialect::default(), Err(refused.into())),
    };
    let mut reply = reply.unwrap_or_else(|failure| failure.into_reply(dialect));
    let reusable = reply.headers().get(CONNECTION).is_none();
    if reusable && !body.is_end_stream() && !is_passed(&head, &mut body, shared).await {
        reply
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(reply)
}

/// Goes behind a body that was not read; whether the connection can be used again. hyper would close it
/// without a word, and the client's next request would break.
async fn is_passed(head: &Parts, body: &mut Incoming, shared: &Shared) -> bool {
    // Whoever waits to be told to send the body has not sent it, and reading would tell.
    let waits = head.headers.contains_key(EXPECT);
    !waits && discard(body, UNWANTED, shared.options.arrival_timeout()).await
}

async fn dispatch(
    permit: Permit<'_>,
    head: &Parts,
    body: &mut Incoming,
    shared: &Arc<Shared>,
) -> Result<Reply, Failure> {
    let route = permit.route();
    match route {
        Route::ModelInfer(target) => {
            let dialect = permit.dialect();
            let reply = model_infer(target, head, body, dialect, shared).await;
            reply.map(|reply| dialect.spoken(reply))
        }
        Route::SageMakerModels(model) => {
            sagemaker::models(model, head, permit.sight(), body, shared).await
        }
        Route::Generate(target) => generate::whole(target, head, body, shared).await,
        Route::GenerateStream(target) => generate::streamed(target, head, body, shared).await,
        Route::ServerLive => Ok(healthy(br#"{"live":true}"#, shared)),
        Route::ServerReady => Ok(match shared.is_ready() {
            true => healthy(br#"{"ready":true}"#, shared),
            false => empty(StatusCode::BAD_REQUEST),
        }),
        Route::ModelReady(target) => {
            let number = target.number()?;
            match shared.table().find(target.name, number) {
                Ok(_) => Ok(empty(StatusCode::OK)),
                Err(_) => Err(Error::invalid("Model version not ready").into()),
            }
        }
        Route::ServerMetadata => Ok(json(&Server::of(&shared.options))),
        Route::AllMetadata => Ok(all_metadata(permit.sight(), shared)),
        Route::Graphs => Ok(hosted::list(permit.sight(), shared)),
        Route::Graph(named) => {
            Box::pin(hosted::ask(named, permit.sight(), head, body, shared)).await
        }
        Route::GraphReady(named) => hosted::ready(named, shared),
        Route::GraphChange(named) => Box::pin(hosted::change(named, head, body, shared)).await,
        Route::OpenApi => openapi::document(permit.sight(), shared).await,
        Route::Docs => Ok(openapi::page()),
        Route::V1(V1::Alive) => Ok(v1::alive()),
        Route::V1(V1::Models) => Ok(v1::models(permit.sight(), shared)),
        Route::V1(V1::ModelReady(target)) => v1::model_ready(target, shared),
        Route::V1(V1::Predict(target)) => v1::predict(target, head, body, shared).await,
        Route::V1(V1::Explain(target)) => v1::explain(target, shared),
        Route::ModelMetadata(target) => {
            let table = shared.table();
            let number = target.number()?;
            let version = table.find(target.name, number)?;
            Ok(json(&Model::of(&table, version, number.is_some())))
        }
        Route::ModelConfig(target) => {
            let table = shared.table();
            let version = table.find(target.name, target.number()?)?;
            Ok(with_type(
                StatusCode::OK,
                JSON,
                ReplyBody::one(version.config_json.clone()),
            ))
        }
        Route::ModelStatistics(target) => model_statistics(target, permit.sight(), shared),
        Route::Metrics => Ok(metrics_page(shared)),
        Route::LogSettings | Route::TraceSettings(_) => {
            let (verb, model) = match route {
                Route::TraceSettings(target) => ("trace_settings", target.map(|t| t.name)),
                _ => ("log_settings", None),
            };
            let body = match permit.writes() {
                true => Some(read_body(head, body, shared).await?),
                false => None,
            };
            let answer = settings::ask(verb, model, body, shared).await?;
            Ok(with_type(StatusCode::OK, JSON, ReplyBody::one(answer)))
        }
        Route::SharedMemory(device, ask, region) => {
            let body = match ask {
                Ask::Register => read_body(head, body, shared).await?,
                Ask::Status | Ask::Unregister => Bytes::new(),
            };
            let answer = shared_memory::http(device, ask, region, &body, shared)?;
            Ok(with_type(StatusCode::OK, JSON, ReplyBody::one(answer)))
        }
        Route::RepositoryIndex => {
            let payload = read_body(head, body, shared).await?;
            let mut answer = shared.control.ask("repository_index", payload).await?;
            if !permit.sight().is_whole() {
                answer = visible_index(&answer, permit.sight())?;
            }
            Ok(with_type(StatusCode::OK, JSON, ReplyBody::one(answer)))
        }
        Route::RepositoryModel(load, model, repository) => {
            let body = read_body(head, body, shared).await?;
            repository::over_http(load, model, repository, body, permit.sight(), shared).await?;
            Ok(with_type(StatusCode::OK, JSON, ReplyBody::default()))
        }
    }
}

async fn model_infer(
    target: Target<'_>,
    head: &Parts,
    body: &mut Incoming,
    dialect: Dialect,
    shared: &Arc<Shared>,
) -> Result<Reply, Failure> {
    let version = inferring(target, shared)?;
    let declared = dialect.header_length(head);
    let align_at = declared.and_then(number);
    let arrived = arrive(&version, head, body, align_at, shared).await?;
    inferred(&version, head, declared, arrived, shared).await
}

/// The version that infers.
///
/// # Errors
/// If there is none, or it gives any number of answers.
pub fn inferring(target: Target<'_>, shared: &Shared) -> Result<Arc<Version>, Error> {
    let version = Arc::clone(shared.table().find(target.name, target.number()?)?);
    if version.spec.decoupled {
        infer::refused(&version, Instant::now());
        return Err(Error::unsupported(
            "HTTP end point doesn't support models with decoupled transaction policy",
        ));
    }
    Ok(version)
}

/// The answer to a request whose body is there, from a client or from a step of a graph; raw tensors begin
/// where `declared` says.
///
/// # Errors
/// What is wrong with the request, or what the model has to say.
pub async fn inferred(
    version: &Arc<Version>,
    head: &Parts,
    declared: Option<&[u8]>,
    arrived: Arrived,
    shared: &Shared,
) -> Result<Reply, Failure> {
    let Arrived {
        body,
        received,
        traced,
    } = arrived;
    let parsed = declared
        .map(|text| v2::parse_header_length(text, body.len()))
        .transpose()
        .and_then(|length| v2::parse_request(&body, length, &version.spec));
    // From here on the tensors alone keep the body.
    drop(body);
    let attached = parsed.and_then(|mut request| {
        shared.forward.http(head, &mut request.parameters)?;
        shared.regions.attach(request)
    });
    let (request, targets) = attached.inspect_err(|_| infer::refused(version, received))?;
    let asked = request.take_asked();
    let mut response = infer::infer(version, request, received, traced.as_ref()).await?;
    targets.write(&asked, &mut response)?;
    let labels = |output: &str| version.labels.get(output).map(Vec::as_slice);
    let answer = v2::encode_response(
        &version.spec,
        &version.number_text,
        &asked,
        &response,
        &labels,
    )?;
    mark(traced.as_ref(), Point::ResponseComplete);
    let mut reply = match head.headers.get(ACCEPT_ENCODING).and_then(wished) {
        None => infer_reply(answer, traced),
        Some(encoding) => compressed_reply(encoding, answer, traced).await,
    };
    if shared.access_log.is_some() {
        reply.extensions_mut().insert(RequestId(asked.id));
    }
    Ok(reply)
}

/// The metadata of every model that may be seen and has a version that is ready.
fn all_metadata(sight: Sight<'_>, shared: &Shared) -> Reply {
    #[derive(Serialize)]
    struct All {
        models: Vec<Model>,
    }
    let table = shared.table();
    let models = table
        .names()
        .filter(|name| sight.sees(name))
        .filter_map(|name| table.find(name, None).ok())
        .map(|version| Model::of(&table, version, false))
        .collect();
    json(&All { models })
}

fn infer_reply(answer: v2::Answer, traced: Option<Traced>) -> Reply {
    let body = ReplyBody::many(answer.head, answer.tail).with_trace(traced);
    let Some(length) = answer.header_length else {
        return with_type(StatusCode::OK, JSON, body);
    };
    let mut reply = with_type(StatusCode::OK, OCTETS, body);
    reply
        .headers_mut()
        .insert(&HEADER_LENGTH, HeaderValue::from(length));
    reply
}

/// The encoding that a client likes best, unless it is none.
fn wished(accepted: &HeaderValue) -> Option<Encoding> {
    Encoding::preferred(accepted.to_str().ok()?)
}

async fn compressed_reply(encoding: Encoding, answer: v2::Answer, traced: Option<Traced>) -> Reply {
    let mut pieces = compression::Pieces::from_iter([answer.head.clone()]);
    pieces.extend(answer.tail.iter().cloned());
    let Some(short) = compression::shrink(encoding, Effort::Low, pieces).await else {
        return infer_reply(answer, traced);
    };
    let short = v2::Answer {
        head: short,
        tail: SmallVec::new(),
        ..answer
    };
    let mut reply = infer_reply(short, traced);
    let name = HeaderValue::from_static(encoding.name());
    reply.headers_mut().insert(CONTENT_ENCODING, name);
    reply
}

fn model_statistics(
    target: Option<Target<'_>>,
    sight: Sight<'_>,
    shared: &Shared,
) -> Result<Reply, Failure> {
    #[derive(Serialize)]
    struct Statistics {
        model_stats: Vec<ModelStatistics>,
    }
    let number = target.map_or(Ok(None), |target| target.number())?;
    let model_stats = statistics_of(target.map(|target| target.name), number, sight, shared)?;
    Ok(json(&Statistics { model_stats }))
}

/// The entries of a repository index that somebody may see.
fn visible_index(index: &[u8], sight: Sight<'_>) -> Result<Bytes, Error> {
    let broken = |why| Error::internal(format!("repository index is not usable: {why}"));
    let mut entries: Vec<serde_json::Value> = serde_json::from_slice(index).map_err(broken)?;
    entries.retain(|entry| entry["name"].as_str().is_some_and(|name| sight.sees(name)));
    serde_json::to_vec(&entries)
        .map(Bytes::from)
        .map_err(broken)
}

/// The statistics of one version, of all versions of a model, or of everything that may be seen.
pub fn statistics_of(
    name: Option<&str>,
    number: Option<u64>,
    sight: Sight<'_>,
    shared: &Shared,
) -> Result<Vec<ModelStatistics>, Error> {
    let table = shared.table();
    let Some(name) = name else {
        return Ok(table
            .ready()
            .filter(|version| sight.sees(&version.spec.name))
            .map(|version| ModelStatistics::of(version))
            .collect());
    };
    let versions: Vec<&Arc<Version>> = match table.entry(name) {
        Some(entry) => entry
            .ready
            .iter()
            .filter(|v| number.is_none_or(|n| v.number == n))
            .collect(),
        None => Vec::new(),
    };
    if versions.is_empty() {
        return Err(Error::invalid(match number {
            Some(_) => format!("requested model version is not available for model '{name}'"),
            None => format!("requested model '{name}' is not available"),
        }));
    }
    Ok(versions
        .into_iter()
        .map(|version| ModelStatistics::of(version))
        .collect())
}

fn metrics_page(shared: &Shared) -> Reply {
    let page = metrics::page(shared).into();
    with_type(StatusCode::OK, PROMETHEUS, ReplyBody::one(page))
}

fn number(text: &[u8]) -> Option<usize> {
    str::from_utf8(text).ok()?.parse().ok()
}

/// That all is well: Triton's servers say so by the status alone, KServe's in JSON too.
fn healthy(told: &'static [u8], shared: &Shared) -> Reply {
    match shared.options.health_json {
        true => with_type(
            StatusCode::OK,
            JSON,
            ReplyBody::one(Bytes::from_static(told)),
        ),
        false => empty(StatusCode::OK),
    }
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(ReplyBody::default());
    *reply.status_mut() = status;
    reply
}

/// An answer that is a JSON object.
pub fn json(value: &impl Serialize) -> Reply {
    let text = serde_json::to_vec(value).unwrap_or_default();
    with_type(StatusCode::OK, JSON, ReplyBody::one(text.into()))
}

/// An answer with a body.
pub fn with_type(status: StatusCode, content_type: HeaderValue, body: ReplyBody) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, content_type);
    reply
}
