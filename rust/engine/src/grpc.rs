// SPDX-License-Identifier: Apache-2.0
//! The v2 protocol over gRPC: what each call answers (`spec/triton.md` 2).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, Response};
use nerite_logic::Error;
use nerite_logic::wire::grpc::frame::PREFIX;
use nerite_logic::wire::grpc::messages as proto;
use nerite_logic::wire::grpc::{
    InferEnvelope, Unframed, encode_infer, frame, parse_version, unframe,
};
use prost::Message;
use smallvec::SmallVec;

use crate::access_log::RequestId;
use crate::body::{Align, Reading, ReplyBody, Unreadable, read};
use crate::grpc_stream::InferStream;
use crate::http::statistics_of;
use crate::metadata::{Model, ModelStatistics, Server, TensorMetadata};
use crate::routes::Rpc;
use crate::routes::guard::{Call, Entered, Peer, Sight};
use crate::server::Shared;
use crate::trace::{Point, Traced, mark};
use crate::{infer, settings, shared_memory};

type Reply = Response<ReplyBody>;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const OK: HeaderValue = HeaderValue::from_static("0");
static STATUS: HeaderName = HeaderName::from_static("grpc-status");
static MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A status other than OK.
#[derive(Debug)]
pub struct Status {
    code: u8,
    message: String,
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self {
            code: error.code.grpc_status(),
            message: error.message.into_owned(),
        }
    }
}

/// What outlives the message of an inference.
#[derive(Default)]
struct After {
    traced: Option<Traced>,
    /// The client's id, for the access log.
    request_id: Option<RequestId>,
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
    Ok(call(request, peer, shared)
        .await
        .unwrap_or_else(Status::into_reply))
}

/// The answer of a call that has one message: one buffer, and large tensors behind it.
fn framed(head: Bytes, tail: SmallVec<[Bytes; 2]>, after: After) -> Reply {
    let body = ReplyBody::many(head, tail).with_trailers(ok_trailers());
    let mut reply = Response::new(body.with_trace(after.traced));
    if let Some(id) = after.request_id {
        reply.extensions_mut().insert(id);
    }
    reply.headers_mut().insert(CONTENT_TYPE, GRPC);
    reply
}

/// The trailers of a call that went well.
#[must_use]
pub fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(STATUS.clone(), OK);
    trailers
}

impl Status {
    /// A status that no code of Triton's stands for.
    #[must_use]
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }

    /// The status as trailers.
    #[must_use]
    pub fn trailers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.write(&mut headers);
        headers
    }

    /// Headers that are trailers too: the answer has no message.
    fn into_reply(self) -> Reply {
        let mut reply = Response::new(ReplyBody::default());
        let headers = reply.headers_mut();
        headers.insert(CONTENT_TYPE, GRPC);
        self.write(headers);
        reply
    }

    fn write(&self, headers: &mut HeaderMap) {
        headers.insert(STATUS.clone(), HeaderValue::from(u16::from(self.code)));
        if let Ok(message) = HeaderValue::from_str(&percent_encode(&self.message)) {
            headers.insert(MESSAGE.clone(), message);
        }
    }
}

/// As gRPC wants it in `grpc-message`: printable ASCII but `%` stands for itself.
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            other => {
                out.push('%');
                for digit in [other >> 4, other & 15] {
                    out.push(
                        char::from_digit(u32::from(digit), 16)
                            .unwrap_or('0')
                            .to_ascii_uppercase(),
                    );
                }
            }
        }
    }
    out
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
    if entered.rpc() == Rpc::ModelStreamInfer {
        return Ok(infer_stream(entered, head.headers, body, shared));
    }
    let began = shared.tracer.clock();
    let admitted = entered.admit(read_message(body, shared).await?)?;
    match admitted.rpc() {
        Rpc::ModelInfer => model_infer(admitted, &head.headers, began, shared)
            .await
            .map_err(Status::from),
        _ => cold(admitted, shared)
            .await
            .map_err(Status::from)
            .map(|head| framed(head, SmallVec::new(), After::default())),
    }
}

/// The answer begins at once: it goes on for as long as the client sends requests.
fn infer_stream(
    entered: Entered,
    headers: HeaderMap,
    body: Incoming,
    shared: &Arc<Shared>,
) -> Reply {
    let stream = InferStream::new(entered, headers, body, Arc::clone(shared));
    let mut reply = Response::new(ReplyBody::streamed(Box::new(stream)));
    reply.headers_mut().insert(CONTENT_TYPE, GRPC);
    reply
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
        return Err(Error::unsupported(
            "ModelInfer RPC doesn't support models with decoupled transaction policy",
        ));
    }
    let traced = shared.tracer.sample(&version, headers, true);
    if let (Some(traced), Some(began)) = (&traced, began) {
        traced.trace().mark_at(Point::ReceiveStart, began);
        traced.trace().mark_at(Point::ReceiveEnd, received);
    }
    let parsed = envelope.into_request(&version.spec);
    let attached = parsed.and_then(|request| shared.regions.attach(request));
    let (mut request, targets) = attached.inspect_err(|_| infer::refused(&version, received))?;
    shared.forward.grpc(headers, &mut request.parameters)?;
    let asked = request.take_asked();
    let mut response = infer::infer(&version, request, received, traced.as_ref()).await?;
    targets.write(&asked, &mut response)?;
    let labels = |output: &str| version.labels.get(output).map(Vec::as_slice);
    let (head, tail) = encode_infer(
        &version.spec,
        &version.number_text,
        &asked,
        &response,
        &labels,
    )?;
    mark(traced.as_ref(), Point::ResponseComplete);
    let request_id = shared.access_log.as_ref().map(|_| RequestId(asked.id));
    Ok(framed(head, tail, After { traced, request_id }))
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
        Rpc::LogSettings => {
            drop(table);
            return settings::log_settings(decode(message)?, shared).await;
        }
        Rpc::TraceSetting => {
            drop(table);
            return settings::trace_setting(decode(message)?, shared).await;
        }
        Rpc::SharedMemory(device, ask) => shared_memory::grpc(device, ask, message, shared)?,
        Rpc::ModelInfer | Rpc::ModelStreamInfer => {
            return Err(Error::internal("inference is answered elsewhere"));
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

/// A message that was sent.
///
/// # Errors
/// INTERNAL, in Triton's words, if it is none.
pub fn decode<M: Message + Default>(message: Bytes) -> Result<M, Error> {
    M::decode(message).map_err(|_| Error::internal("Unable to parse request"))
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
    }
}

/// Reads the one message of a unary call.
async fn read_message(mut body: Incoming, shared: &Shared) -> Result<Bytes, Status> {
    let limit = shared.options.max_message_bytes;
    let patience = shared.options.arrival_timeout();
    let how = Reading {
        limit: limit.saturating_add(PREFIX),
        align: Align::MessageEnd,
        patience,
    };
    let mut data = read(&mut body, how).await.map_err(|why| match why {
        Unreadable::TooLong(_) => Status {
            code: 8,
            message: format!("Received message larger than max ({limit} bytes)"),
        },
        Unreadable::TooSlow => Status {
            code: 4,
            message: format!("request stopped for more than {patience:?}"),
        },
        Unreadable::Broken => Status {
            code: 1,
            message: "request ended early".to_owned(),
        },
    })?;
    match unframe(&mut data, limit) {
        Unframed::Message(message) if data.is_empty() => Ok(message),
        Unframed::Message(_) => Err(Status {
            code: 12,
            message: "a unary call has one message".to_owned(),
        }),
        Unframed::Incomplete { .. } => Err(Status {
            code: 13,
            message: "request message is incomplete".to_owned(),
        }),
        Unframed::Refused(why) => Err(Status {
            code: why.grpc_status(),
            message: why.message(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_texts_survive_the_header() {
        assert_eq!(
            percent_encode("model 'm' is 100% off\nreally: ü"),
            "model 'm' is 100%25 off%0Areally: %C3%BC"
        );
    }
}
