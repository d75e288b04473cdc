// SPDX-License-Identifier: Apache-2.0
//! The v2 protocol over HTTP/1.1: what each route answers (`spec/triton.md` 1).

use std::convert::Infallible;
use std::sync::Arc;

use crate::v2;
use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, EXPECT, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use nerite_logic::Error;
use serde::Serialize;

use crate::body::ReplyBody;
use crate::door::Protocol;
use crate::failure::Failure;
use crate::graph::asked;
use crate::metadata::statistics_of;
use crate::metadata::{Model, ModelStatistics, Server};
use crate::reading::{UNWANTED, discard};
use crate::reply::{JSON, Reply, empty, json, with_type};
use crate::request_body::read_body;
use crate::routes::doors::Dialect;
use crate::routes::guard::{Peer, Permit, Sight};
use crate::routes::{Ask, Route, Target, V1};
use crate::shared::Shared;
use crate::{generate, metrics, openapi, regions, repository, sagemaker, settings, v1};

const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
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
            let reply = v2::infer(target, head, body, dialect, shared).await;
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
        Route::Graphs => Ok(asked::list(permit.sight(), shared)),
        Route::Graph(named) => {
            Box::pin(asked::ask(named, permit.sight(), head, body, shared)).await
        }
        Route::GraphReady(named) => asked::ready(named, shared),
        Route::GraphChange(named) => Box::pin(asked::change(named, head, body, shared)).await,
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
            let answer = regions::http(device, ask, region, &body, shared)?;
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

fn metrics_page(shared: &Shared) -> Reply {
    let page = metrics::page(shared).into();
    with_type(StatusCode::OK, PROMETHEUS, ReplyBody::one(page))
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
