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
use hyper_util::server::graceful::GracefulConnection;
use nerite_logic::wire::grpc::Arrival;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::access_log::Seen;
use crate::arrival::{Progress, Watched};
use crate::body::ReplyBody;
use crate::door::{Protocol, drain_begins};
use crate::listening::Door;
use crate::listening::Stream;
use crate::routes::guard::Peer;
use crate::shared::Shared;
use crate::spelling::Heard;
use crate::tls::Tls;
use crate::{grpc, http};

/// A connection counted among the open ones until it is dropped.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connection_ended();
    }
}

/// Whatever is no plain TCP: a call through a table costs nothing beside TLS.
type Other = Box<dyn Duplex>;

/// Who is at the other end.
#[derive(Clone, Copy)]
struct Caller {
    /// Where it speaks from; what comes through a file has no address.
    address: Option<SocketAddr>,
    /// Whether it is on this machine, as whoever can open a file of it is.
    peer: Peer,
    /// Whether it speaks through a file.
    by_file: bool,
}

impl Caller {
    fn of(stream: &Stream) -> Self {
        match stream {
            Stream::Tcp(stream) => {
                let address = stream.peer_addr().ok();
                Self {
                    address,
                    peer: Peer::at(address),
                    by_file: false,
                }
            }
            Stream::Unix(_) => Self {
                address: None,
                peer: Peer::Loopback,
                by_file: true,
            },
        }
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Serves a connection to its end. The caller has counted it with `Shared::connection_began`.
pub async fn serve(stream: Stream, door: Door, shared: Arc<Shared>) {
    let _counted = Counted(Arc::clone(&shared));
    let caller = Caller::of(&stream);
    let other: Other = match (stream, &door.tls) {
        (Stream::Tcp(stream), tls) => {
            if stream.set_nodelay(true).is_err() {
                return; // The peer is gone already.
            }
            let Some(tls) = tls else {
                return speak(stream, caller, door.protocol, shared).await;
            };
            match secured(stream, tls, &shared).await {
                Some(stream) => stream,
                None => return,
            }
        }
        (Stream::Unix(stream), None) => Box::new(stream),
        (Stream::Unix(stream), Some(tls)) => match secured(stream, tls, &shared).await {
            Some(stream) => stream,
            None => return,
        },
    };
    Box::pin(speak(other, caller, door.protocol, shared)).await;
}

/// The stream inside TLS; `None` if the peer did not get there in time, or before the engine drained.
async fn secured<S>(stream: S, tls: &Arc<Tls>, shared: &Arc<Shared>) -> Option<Other>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    if let Err(why) = tls.look() {
        let text = format!("{why}; the certificates of before stay in use");
        shared.control.tell(text.into());
    }
    let mut draining = shared.draining();
    tokio::select! {
        biased;
        () = drain_begins(&mut draining) => None,
        accepted = Box::pin(tls.accept(stream, shared.options.arrival_timeout())) => {
            accepted.map(|stream| Box::new(stream) as Other)
        }
    }
}

async fn speak<S>(stream: S, caller: Caller, protocol: Protocol, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match protocol {
        Protocol::Grpc => serve_grpc(stream, caller, shared).await,
        Protocol::Http | Protocol::Metrics | Protocol::SageMaker | Protocol::VertexAi => {
            serve_http(stream, caller, protocol, shared).await;
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

/// The answer, once the access log has its line, or will have it.
fn noted(
    shared: &Shared,
    seen: Option<Box<Seen>>,
    mut reply: Result<Response<ReplyBody>, Infallible>,
) -> Result<Response<ReplyBody>, Infallible> {
    if let (Some(log), Some(seen), Ok(reply)) = (&shared.access_log, seen, &mut reply) {
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

async fn serve_http<S>(stream: S, caller: Caller, protocol: Protocol, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let progress = Progress::watched();
    let draining = shared.draining();
    let heard = shared.forward.is_spelled().then(Arc::<Heard>::default);
    let service = service_fn({
        let (progress, heard) = (Arc::clone(&progress), heard.clone());
        move |mut request: Request<Incoming>| {
            progress.answering();
            let progress = Arc::clone(&progress);
            if let Some(heard) = &heard {
                spell(&mut request, heard);
            }
            let shared = Arc::clone(&shared);
            async move {
                let seen = note(&shared, &request, caller.address, "http");
                let reply = http::answer(request, protocol, caller.peer, &shared).await;
                progress.answered();
                noted(&shared, seen, reply)
            }
        }
    });
    let io = TokioIo::new(Watched::http(stream, Arc::clone(&progress)).overheard(heard));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
    follow(connection, progress, draining).await;
}

/// Follows a connection to its end. Once the server drains no more is asked on it, and a peer that stops in the
/// middle of something is let go.
pub async fn follow(
    connection: impl GracefulConnection<Error = hyper::Error> + Send,
    progress: Arc<Progress>,
    mut draining: watch::Receiver<bool>,
) {
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

/// HTTP/2 as it is spoken on every port. A peer that is silent for `every` is asked whether it is there.
pub fn http2(
    every: Option<Duration>,
    timeout: Duration,
    max_streams: u32,
) -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(every)
        .keep_alive_timeout(timeout)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(1 << 20)
        .max_send_buf_size(4 << 20)
        .max_concurrent_streams(max_streams)
        .max_header_list_size(64 << 10);
    builder
}

async fn serve_grpc<S>(stream: S, caller: Caller, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let progress = Progress::watched();
    // Its first byte is awaited from now on: a gRPC client begins at once.
    progress.received();
    let mut draining = shared.draining();
    let limits = shared.options.grpc.clone();
    let max_streams = shared.options.max_streams;
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move {
            let seen = note(&shared, &request, caller.address, "grpc");
            noted(
                &shared,
                seen,
                grpc::answer(request, caller.peer, &shared).await,
            )
        }
    });
    let io = Watched::http2(stream, Arc::clone(&progress), Arrival::default())
        .with_paths(caller.by_file);
    let connection = http2(
        limits.keepalive_time(),
        limits.keepalive_timeout(),
        max_streams,
    )
    .serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    let grace = tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = progress.overdue() => return,
        () = drain_begins(&mut draining) => {
            if !progress.has_opened() {
                return; // Nothing was asked, and nothing can be told yet.
            }
            None
        }
        () = elapsed(limits.age()) => limits.age_grace(),
    };
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection => {}
        () = progress.overdue() => {}
        () = elapsed(grace) => {}
    }
}

/// Waits; without a time for ever.
async fn elapsed(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
