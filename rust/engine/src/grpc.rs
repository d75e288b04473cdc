// SPDX-License-Identifier: Apache-2.0
//! The v2 protocol over gRPC: what each call answers (`spec/triton.md` 2).

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, Response};
use nerite_logic::Error;
use nerite_logic::wire::compression::{Encoding, OFFERED_GRPC};
use nerite_logic::wire::grpc::messages as proto;
use nerite_logic::wire::grpc::{InferEnvelope, encode_infer, frame, parse_timeout, parse_version};
use smallvec::SmallVec;

use crate::access_log::RequestId;
use crate::body::{ReplyBody, Source};
use crate::frames::frames_of;
use crate::grpc_message::decode;
use crate::grpc_message::{
    ACCEPT_ENCODING, Compressed, ENCODING, compressed, read_message, readable,
};
use crate::grpc_status::{GRPC, Status, ok_trailers};
use crate::grpc_stream::InferStream;
use crate::metadata::statistics_of;
use crate::metadata::{Model, ModelStatistics, Server, TensorMetadata};
use crate::reply::Reply;
use crate::routes::Rpc;
use crate::routes::guard::{Call, Entered, Peer, Sight};
use crate::shared::Shared;
use crate::trace::{Point, Traced, mark};
use crate::{conversation, infer, regions, repository, settings};

static TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// What outlives the message of an inference.
#[derive(Default)]
struct After {
    traced: Option<Traced>,
    /// The client's id, for the access log.
    request_id: Option<RequestId>,
    /// How the message is compressed.
    encoding: Option<Encoding>,
}

/// Answers one call; never fails, every failure is a status.
///
/// # Errors
/// None.
pub async fn answer(
    request: Request<Incoming>,
    peer: Peer,
    shared: &Arc<Shared>,
) -> Result<Reply, Infallible> {
    // Who compresses learns what else would do.
    let compresses = request.headers().contains_key(&ENCODING);
    let mut reply = call(request, peer, shared)
        .await
        .unwrap_or_else(Status::into_reply);
    if compresses {
        let offered = HeaderValue::from_static(OFFERED_GRPC);
        reply.headers_mut().insert(ACCEPT_ENCODING.clone(), offered);
    }
    Ok(reply)
}

/// The answer of a call that has one message: one buffer, and large tensors behind it.
fn framed(head: Bytes, tail: SmallVec<[Bytes; 2]>, after: After) -> Reply {
    let body = ReplyBody::many(head, tail).with_trailers(ok_trailers());
    let mut reply = Response::new(body.with_trace(after.traced));
    if let Some(id) = after.request_id {
        reply.extensions_mut().insert(id);
    }
    if let Some(encoding) = after.encoding {
        let name = HeaderValue::from_static(encoding.name());
        reply.headers_mut().insert(ENCODING.clone(), name);
    }
    reply.headers_mut().insert(CONTENT_TYPE, GRPC);
    reply
}

/// The answer of a call that has many, from wherever they come.
fn streamed(source: Box<dyn Source>) -> Reply {
    let mut reply = Response::new(ReplyBody::streamed(source));
    reply.headers_mut().insert(CONTENT_TYPE, GRPC);
    reply
}

/// The answers of a stream of inferences, compressed if that was asked for and the client can read them so.
fn infer_stream(stream: Box<dyn Source>, readable: Option<Encoding>, shared: &Shared) -> Reply {
    let (Some(effort), Some(encoding)) = (shared.options.grpc.effort(), readable) else {
        return streamed(stream);
    };
    let mut reply = streamed(Box::new(Compressed::new(stream, effort, encoding)));
    let name = HeaderValue::from_static(encoding.name());
    reply.headers_mut().insert(ENCODING.clone(), name);
    reply
}

async fn call(
    request: Request<Incoming>,
    peer: Peer,
    shared: &Arc<Shared>,
) -> Result<Reply, Status> {
    let (head, body) = request.into_parts();
    let is_grpc = head
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if !is_grpc || head.method != hyper::Method::POST {
        let message = "this port speaks gRPC: POST with content-type application/grpc".to_owned();
        return Err(Status { code: 3, message });
    }
    let entered = shared.guard.enter(&head, peer)?;
    let limit = time_left(&head.headers)?;
    match entered.rpc() {
        // Their answers begin at once: they go on for as long as the client speaks.
        Rpc::ModelStreamInfer => {
            let readable = readable(&head.headers);
            let stream = InferStream::new(entered, head.headers, body, limit, Arc::clone(shared));
            return Ok(infer_stream(Box::new(stream), readable, shared));
        }
        Rpc::Reflection => {
            let frames = frames_of(body, &head.headers, shared);
            let answers = conversation::reflect(entered, frames, limit, shared);
            return Ok(streamed(answers));
        }
        _ => {}
    }
    let mut answered = pin!(answered(&entered, body, &head.headers, limit, shared));
    match limit {
        None => answered.await,
        // Who is no longer waited for is dropped, and whatever it holds goes with it.
        Some(limit) => tokio::time::timeout(limit, answered.as_mut())
            .await
            .unwrap_or_else(|_| Err(Status::too_late())),
    }
}

/// How long the client will wait; `None` is for ever.
fn time_left(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(timeout) = headers.get(&TIMEOUT) else {
        return Ok(None);
    };
    let refused = || {
        let text = format!("grpc-timeout {timeout:?} is not a number and a unit");
        Status::new(13, text)
    };
    let limit = parse_timeout(timeout.as_bytes()).ok_or_else(refused)?;
    Ok(Some(limit))
}

async fn answered(
    entered: &Entered,
    body: Incoming,
    headers: &HeaderMap,
    limit: Option<Duration>,
    shared: &Arc<Shared>,
) -> Result<Reply, Status> {
    let began = shared.tracer.clock();
    let admitted = entered.admit(read_message(body, headers, shared).await?)?;
    match admitted.rpc() {
        Rpc::ModelInfer => model_infer(admitted, headers, began, shared)
            .await
            .map_err(Status::from),
        Rpc::HealthWatch => Ok(streamed(conversation::watch_health(limit, shared))),
        _ => cold(admitted, shared)
            .await
            .map_err(Status::from)
            .map(|head| framed(head, SmallVec::new(), After::default())),
    }
}

async fn model_infer(
    admitted: Call<'_>,
    headers: &HeaderMap,
    began: Option<Instant>,
    shared: &Arc<Shared>,
) -> Result<Reply, Error> {
    let received = Instant::now();
    let envelope = InferEnvelope::decode(admitted.into_message())?;
    let number = parse_version(envelope.model_version())?;
    let version = Arc::clone(shared.table().find(envelope.model_name(), number)?);
    if version.spec.decoupled {
        infer::refused(&version, received);
        return Err(Error::unsupported(
            "ModelInfer RPC doesn't support models with decoupled transaction policy",
        ));
    }
    let traced = shared.tracer.sample(version.traced(), headers, true);
    if let (Some(traced), Some(began)) = (&traced, began) {
        traced.trace().mark_at(Point::ReceiveStart, began);
        traced.trace().mark_at(Point::ReceiveEnd, received);
    }
    let parsed = envelope.into_request(&version.spec);
    let attached = parsed.and_then(|mut request| {
        shared.forward.grpc(headers, &mut request.parameters)?;
        shared.regions.attach(request)
    });
    let (request, targets) = attached.inspect_err(|_| infer::refused(&version, received))?;
    let asked = request.take_asked();
    let mut response = infer::infer(&version, request, received, traced.as_ref()).await?;
    targets.write(&asked, &mut response)?;
    let labels = |output: &str| version.labels.get(output).map(Vec::as_slice);
    let mut message = encode_infer(
        &version.spec,
        &version.number_text,
        &asked,
        &response,
        &labels,
    )?;
    let mut encoding = None;
    if let Some(effort) = shared.options.grpc.effort()
        && let Some(readable) = readable(headers)
        && let Some(short) = compressed(&message, effort, readable).await
    {
        (message, encoding) = (short, Some(readable));
    }
    mark(traced.as_ref(), Point::ResponseComplete);
    let request_id = shared.access_log.as_ref().map(|_| RequestId(asked.id));
    let after = After {
        traced,
        request_id,
        encoding,
    };
    Ok(framed(message.0, message.1, after))
}

/// Everything but inference: health, metadata, statistics, the repository.
async fn cold(admitted: Call<'_>, shared: &Arc<Shared>) -> Result<Bytes, Error> {
    let (rpc, sight) = (admitted.rpc(), admitted.sight());
    let message = admitted.into_message();
    let table = shared.table();
    Ok(match rpc {
        Rpc::ServerLive => frame(&proto::ServerLiveResponse { live: true }),
        Rpc::ServerReady => frame(&proto::ServerReadyResponse {
            ready: shared.is_ready(),
        }),
        Rpc::HealthCheck => {
            let status = if shared.is_ready() { 1 } else { 2 };
            frame(&proto::HealthCheckResponse { status })
        }
        Rpc::ModelReady => {
            let asked: proto::ModelReadyRequest = decode(message)?;
            let ready = table
                .find(&asked.name, parse_version(&asked.version)?)
                .is_ok();
            frame(&proto::ModelReadyResponse { ready })
        }
        Rpc::ServerMetadata => {
            let server = Server::of(&shared.options);
            frame(&proto::ServerMetadataResponse {
                name: server.name.to_owned(),
                version: server.version.to_owned(),
                extensions: server.extensions.to_vec(),
            })
        }
        Rpc::ModelMetadata => {
            let asked: proto::ModelMetadataRequest = decode(message)?;
            let number = parse_version(&asked.version)?;
            let version = table.find(&asked.name, number)?;
            frame(&metadata_message(Model::of(
                &table,
                version,
                number.is_some(),
            )))
        }
        Rpc::ModelConfig => {
            let asked: proto::ModelConfigRequest = decode(message)?;
            let version = table.find(&asked.name, parse_version(&asked.version)?)?;
            frame(&proto::ModelConfigResponse {
                config: Some(version.config_proto.clone()),
            })
        }
        Rpc::ModelStatistics => {
            let asked: proto::ModelStatisticsRequest = decode(message)?;
            let name = Some(asked.name.as_str()).filter(|name| !name.is_empty());
            let all = statistics_of(name, parse_version(&asked.version)?, sight, shared)?;
            let model_stats = all.into_iter().map(statistics_message).collect();
            frame(&proto::ModelStatisticsResponse { model_stats })
        }
        Rpc::RepositoryIndex => {
            drop(table);
            return repository_index(message, sight, shared).await;
        }
        Rpc::RepositoryModelLoad | Rpc::RepositoryModelUnload => {
            drop(table);
            let load = rpc == Rpc::RepositoryModelLoad;
            return repository::over_grpc(load, decode(message)?, sight, shared).await;
        }
        Rpc::LogSettings => {
            drop(table);
            return settings::log_settings(decode(message)?, shared).await;
        }
        Rpc::TraceSetting => {
            drop(table);
            return settings::trace_setting(decode(message)?, shared).await;
        }
        Rpc::SharedMemory(device, ask) => regions::grpc(device, ask, message, shared)?,
        Rpc::ModelInfer | Rpc::ModelStreamInfer | Rpc::HealthWatch | Rpc::Reflection => {
            return Err(Error::internal("this call is answered elsewhere"));
        }
    })
}

async fn repository_index(
    message: Bytes,
    sight: Sight<'_>,
    shared: &Shared,
) -> Result<Bytes, Error> {
    #[derive(serde::Deserialize)]
    struct Entry {
        name: String,
        #[serde(default)]
        version: String,
        #[serde(default)]
        state: String,
        #[serde(default)]
        reason: String,
    }
    let asked: proto::RepositoryIndexRequest = decode(message)?;
    if !asked.repository_name.is_empty() {
        return Err(Error::unsupported(
            "'repository_name' specification is not supported",
        ));
    }
    let payload = Bytes::from_static(if asked.ready {
        b"{\"ready\":true}"
    } else {
        b"{}"
    });
    let answer = shared.control.ask("repository_index", payload).await?;
    let entries: Vec<Entry> = serde_json::from_slice(&answer)
        .map_err(|why| Error::internal(format!("repository index is not usable: {why}")))?;
    let seen = entries.into_iter().filter(|entry| sight.sees(&entry.name));
    let models = seen.map(|entry| proto::ModelIndex {
        name: entry.name,
        version: entry.version,
        state: entry.state,
        reason: entry.reason,
    });
    Ok(frame(&proto::RepositoryIndexResponse {
        models: models.collect(),
    }))
}

fn metadata_message(model: Model) -> proto::ModelMetadataResponse {
    let tensors = |list: Vec<TensorMetadata>| {
        list.into_iter()
            .map(|tensor| proto::TensorMetadata {
                name: tensor.name,
                datatype: tensor.datatype.to_owned(),
                shape: tensor.shape,
            })
            .collect()
    };
    proto::ModelMetadataResponse {
        name: model.name,
        versions: model.versions,
        platform: model.platform,
        inputs: tensors(model.inputs),
        outputs: tensors(model.outputs),
    }
}

fn statistics_message(model: ModelStatistics) -> proto::ModelStatistics {
    let spent = |duration: crate::metadata::Duration| {
        Some(proto::StatisticDuration {
            count: duration.count,
            ns: duration.ns,
        })
    };
    let infer = model.inference_stats;
    let batches = model
        .batch_stats
        .into_iter()
        .map(|batch| proto::InferBatchStatistics {
            batch_size: batch.batch_size,
            compute_input: spent(batch.compute_input),
            compute_infer: spent(batch.compute_infer),
            compute_output: spent(batch.compute_output),
        });
    let responses = model
        .response_stats
        .into_iter()
        .enumerate()
        .map(|(place, at)| {
            let at = proto::InferResponseStatistics {
                compute_infer: spent(at.compute_infer),
                compute_output: spent(at.compute_output),
                success: spent(at.success),
                fail: spent(at.fail),
                empty_response: spent(at.empty_response),
                cancel: spent(at.cancel),
            };
            (place.to_string(), at)
        });
    let memory = model
        .memory_usage
        .into_iter()
        .map(|usage| proto::MemoryUsage {
            r#type: usage.kind,
            id: usage.id,
            byte_size: usage.byte_size,
        });
    proto::ModelStatistics {
        name: model.name,
        version: model.version,
        last_inference: model.last_inference,
        inference_count: model.inference_count,
        execution_count: model.execution_count,
        inference_stats: Some(proto::InferStatistics {
            success: spent(infer.success),
            fail: spent(infer.fail),
            queue: spent(infer.queue),
            compute_input: spent(infer.compute_input),
            compute_infer: spent(infer.compute_infer),
            compute_output: spent(infer.compute_output),
            cache_hit: spent(infer.cache_hit),
            cache_miss: spent(infer.cache_miss),
        }),
        batch_stats: batches.collect(),
        memory_usage: memory.collect(),
        response_stats: responses.collect(),
    }
}
