// SPDX-License-Identifier: Apache-2.0
//! One connection: counted, watched ([`crate::arrival`]), and ended politely.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::http::uri::PathAndQuery;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use nerite_logic::wire::grpc::Arrival;
use tokio::net::TcpStream;

use crate::access_log::Seen;
use crate::arrival::{Progress, Watched};
use crate::body::ReplyBody;
use crate::routes::guard::Peer;
use crate::server::Shared;
use crate::spelling::{Heard, Overheard};
use crate::{grpc, http};

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The v2 protocol over HTTP/1.1.
    Http,
    /// The v2 protocol over gRPC.
    Grpc,
    /// Prometheus text over HTTP/1.1.
    Metrics,
    /// What SageMaker asks of a container.
    SageMaker,
    /// What Vertex AI asks of a container.
    VertexAi,
}

/// A connection counted among the open ones until it is dropped.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connection_ended();
    }
}

/// Waits until the engine drains.
pub async fn drain_begins(draining: &mut tokio::sync::watch::Receiver<bool>) {
    // The guard of the value must not outlive the wait, and a sender that is gone has drained too.
    let _ = draining.wait_for(|draining| *draining).await;
}

/// Serves a connection to its end. The caller has counted it with `Shared::connection_began`.
pub async fn serve(stream: TcpStream, protocol: Protocol, shared: Arc<Shared>) {
    let _counted = Counted(Arc::clone(&shared));
    if stream.set_nodelay(true).is_err() {
        return; // The peer is gone already.
    }
    match protocol {
        Protocol::Grpc => serve_grpc(stream, shared).await,
        Protocol::Http | Protocol::Metrics | Protocol::SageMaker | Protocol::VertexAi => {
            serve_http(stream, protocol, shared).await;
        }
    }
}

/// A request's head for the access log, if there is one.
fn note(
    shared: &Shared,
    request: &Request<Incoming>,
    address: Option<SocketAddr>,
    protocol: &'static str,
) -> Option<Box<Seen>> {
    let log = shared.access_log.as_ref()?;
    Some(log.begin(request, address, protocol))
}

/// The answer, once the access log has its line.
fn noted(
    shared: &Shared,
    seen: Option<Box<Seen>>,
    reply: Result<Response<ReplyBody>, Infallible>,
) -> Result<Response<ReplyBody>, Infallible> {
    if let (Some(log), Some(seen), Ok(reply)) = (&shared.access_log, seen, &reply) {
        log.end(seen, reply);
    }
    reply
}

/// Leaves in a request how the names of its headers were spelled.
fn spell(request: &mut Request<Incoming>, heard: &Heard) {
    let path = request.uri().path_and_query().map(PathAndQuery::as_str);
    if let Some(spelling) = heard.spelling(path.unwrap_or_default()) {
        request.extensions_mut().insert(spelling);
    }
}

async fn serve_http(stream: TcpStream, protocol: Protocol, shared: Arc<Shared>) {
    let progress = Progress::watched();
    let address = stream.peer_addr().ok();
    let peer = Peer::at(address);
    let mut draining = shared.draining();
    let heard = shared.forward.is_spelled().then(Arc::<Heard>::default);
    let service = service_fn({
        let (progress, heard) = (Arc::clone(&progress), heard.clone());
        move |mut request: Request<Incoming>| {
            progress.head_complete();
            if let Some(heard) = &heard {
                spell(&mut request, heard);
            }
            let shared = Arc::clone(&shared);
            async move {
                let seen = note(&shared, &request, address, "http");
                noted(
                    &shared,
                    seen,
                    http::answer(request, protocol, peer, &shared).await,
                )
            }
        }
    });
    let stream = Watched::http(stream, Arc::clone(&progress));
    let io = TokioIo::new(Overheard { stream, heard });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
    tokio::pin!(connection);
    // Errors here are the peer's doing (reset, malformed head) and have been answered where possible.
    tokio::select! {
        biased;
        _ = connection.as_mut() => {}
        () = progress.overdue() => {}
        () = drain_begins(&mut draining) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                _ = connection => {}
                () = progress.overdue() => {}
            }
        }
    }
}

/// Bytes that a peer may send ahead on one gRPC call, and on one connection.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// How long a peer may be silent before it is asked whether it is there, and how long it may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(7200), Duration::from_secs(20));

async fn serve_grpc(stream: TcpStream, shared: Arc<Shared>) {
    let progress = Progress::watched();
    // Its first byte is awaited from now on: a gRPC client begins at once.
    progress.received();
    let mut draining = shared.draining();
    let max_streams = shared.options.max_streams;
    let address = stream.peer_addr().ok();
    let peer = Peer::at(address);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move {
            let seen = note(&shared, &request, address, "grpc");
            noted(&shared, seen, grpc::answer(request, peer, &shared).await)
        }
    });
    let io = Watched::http2(stream, Arc::clone(&progress), Arrival::default());
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(1 << 20)
        .max_send_buf_size(4 << 20)
        .max_concurrent_streams(max_streams)
        .max_header_list_size(64 << 10)
        .serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    tokio::select! {
        biased;
        _ = connection.as_mut() => {}
        () = progress.overdue() => {}
        () = drain_begins(&mut draining) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                _ = connection => {}
                () = progress.overdue() => {}
            }
        }
    }
}
