// SPDX-License-Identifier: Apache-2.0
//! One connection: counted, watched, and ended politely.
//!
//! A request's head must arrive within the arrival timeout once its first byte has. Watching that with a
//! timer per request would cost more than parsing it, so each connection only notes when it began to
//! receive, and one task per I/O thread looks around now and then ([`sweep`]). A connection that waits
//! for its next request is idle and may wait for ever.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::access_log::Seen;
use crate::body::ReplyBody;
use crate::server::Shared;
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
}

/// How far the head of a request has come.
#[derive(Debug)]
pub struct Progress {
    /// Milliseconds on the sweeper's clock, plus one, at the first byte; 0 while nothing is awaited.
    receiving_since: AtomicU64,
    /// Rung when it has taken too long.
    overdue: Notify,
}

thread_local! {
    static WATCHED: RefCell<Watch> = RefCell::new(Watch { began: Instant::now(), list: Vec::new() });
}

struct Watch {
    began: Instant,
    list: Vec<Weak<Progress>>,
}

impl Progress {
    /// Progress that the sweeper of this thread watches.
    pub fn watched() -> Arc<Self> {
        let progress = Arc::new(Self {
            receiving_since: AtomicU64::new(0),
            overdue: Notify::new(),
        });
        WATCHED.with_borrow_mut(|watch| watch.list.push(Arc::downgrade(&progress)));
        progress
    }

    /// A request's head has come in full; whoever answers watches its body.
    pub fn head_complete(&self) {
        self.receiving_since.store(0, Ordering::Relaxed);
    }

    /// Returns when the head has taken too long.
    pub async fn is_overdue(&self) {
        self.overdue.notified().await;
    }

    fn received(&self) {
        if self.receiving_since.load(Ordering::Relaxed) == 0 {
            let now = WATCHED.with_borrow(|watch| watch.began.elapsed());
            self.receiving_since
                .store(millis(now) + 1, Ordering::Relaxed);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}

/// Ends connections whose request head has been on its way for longer than `limit`; one such task runs
/// on each I/O thread.
pub async fn sweep(limit: Duration) {
    loop {
        tokio::time::sleep((limit / 4).min(Duration::from_secs(1))).await;
        WATCHED.with_borrow_mut(|watch| {
            let now = millis(watch.began.elapsed());
            watch.list.retain(|progress| {
                let Some(progress) = progress.upgrade() else {
                    return false;
                };
                let since = progress.receiving_since.load(Ordering::Relaxed);
                if since != 0 && now.saturating_sub(since) > millis(limit) {
                    progress.overdue.notify_one();
                }
                true
            });
        });
    }
}

/// A socket that notes when bytes come.
pub struct Watched {
    stream: TcpStream,
    progress: Arc<Progress>,
}

impl Watched {
    /// A socket that tells `progress`.
    pub fn new(stream: TcpStream, progress: &Arc<Progress>) -> Self {
        let progress = Arc::clone(progress);
        Self { stream, progress }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.progress.received();
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
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
        Protocol::Http | Protocol::Metrics => serve_http(stream, protocol, shared).await,
        Protocol::Grpc => serve_grpc(stream, shared).await,
    }
}

/// A request's head for the access log, if there is one.
fn note(
    shared: &Shared,
    request: &Request<Incoming>,
    peer: Option<SocketAddr>,
    protocol: &'static str,
) -> Option<Box<Seen>> {
    let log = shared.access_log.as_ref()?;
    Some(log.begin(request, peer, protocol))
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

/// The other end's address, for the access log.
fn peer_of(stream: &TcpStream, shared: &Shared) -> Option<SocketAddr> {
    shared.access_log.as_ref()?;
    stream.peer_addr().ok()
}

async fn serve_http(stream: TcpStream, protocol: Protocol, shared: Arc<Shared>) {
    let progress = Progress::watched();
    let peer = peer_of(&stream, &shared);
    let mut draining = shared.draining();
    let service = service_fn({
        let progress = Arc::clone(&progress);
        move |request| {
            progress.head_complete();
            let shared = Arc::clone(&shared);
            async move {
                let seen = note(&shared, &request, peer, "http");
                noted(
                    &shared,
                    seen,
                    http::answer(request, protocol, &shared).await,
                )
            }
        }
    });
    let io = TokioIo::new(Watched {
        stream,
        progress: Arc::clone(&progress),
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
    tokio::pin!(connection);
    // Errors here are the peer's doing (reset, malformed head) and have been answered where possible.
    tokio::select! {
        biased;
        _ = connection.as_mut() => {}
        () = progress.overdue.notified() => {}
        () = drain_begins(&mut draining) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                _ = connection => {}
                () = progress.overdue.notified() => {}
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
    let mut draining = shared.draining();
    let max_streams = shared.options.max_streams;
    let peer = peer_of(&stream, &shared);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move {
            let seen = note(&shared, &request, peer, "grpc");
            noted(&shared, seen, grpc::answer(request, &shared).await)
        }
    });
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
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        biased;
        _ = connection.as_mut() => {}
        () = drain_begins(&mut draining) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
