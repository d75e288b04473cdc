// SPDX-License-Identifier: Apache-2.0
//! Connections to components: made when needed, kept for the next request, one pool per I/O thread.
//!
//! A connection that its peer has closed meanwhile is found out before a request is written to it
//! (hyper gives such a request back), and only then is another one taken. What may have been written is sent
//! again, once and on a new connection, only if its method promises that twice is as good as once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::outgoing::Outgoing;
use super::secure::{TLS, secured};
use super::speech::Speech;
use crate::door::UNIX;
use crate::small_writes::InOnePiece;

/// Servers close connections that are idle for long (uvicorn: 5 s); ours is faster, so that a request
/// and the end of its connection do not cross.
const IDLE: Duration = Duration::from_secs(4);
/// After this much rest a connection is looked at again before it is used.
const NEWS: Duration = Duration::from_millis(1);
/// Idle connections kept per component and I/O thread.
const MOST_IDLE: usize = 256;
/// Bytes that a component may send ahead on one call, and on one connection.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

#[derive(Default)]
struct Pool {
    idle: HashMap<Arc<str>, Vec<Idle>>,
    /// One connection carries all calls.
    grpc: HashMap<Arc<str>, http2::SendRequest<Outgoing>>,
}

struct Idle {
    sender: http1::SendRequest<Outgoing>,
    since: Instant,
}

/// What lies below HTTP: a TCP connection, or TLS on one.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// No connection: the component has seen nothing, and the request is still whole.
    Unreachable(Box<Request<Outgoing>>, String),
    /// The connection broke while it was used.
    Broken(String),
}

/// A connection in use; goes back to the pool by [`Lease::done`], is closed if dropped before.
pub struct Lease {
    address: Arc<str>,
    sender: http1::SendRequest<Outgoing>,
}

impl Lease {
    /// The answer was taken in full.
    pub fn done(self) {
        if self.sender.is_closed() {
            return;
        }
        POOL.with_borrow_mut(|pool| {
            let idle = match pool.idle.get_mut(&self.address) {
                Some(idle) => idle,
                None => pool.idle.entry(self.address).or_default(),
            };
            if idle.len() < MOST_IDLE {
                idle.push(Idle {
                    sender: self.sender,
                    since: Instant::now(),
                });
            }
        });
    }
}

/// How components are reached.
#[derive(Debug)]
pub struct Reach {
    /// How long a connection may take.
    patience: Duration,
    /// Connections that were tried.
    pub opened: AtomicU64,
}

impl Reach {
    /// Connections may take this long.
    pub const fn new(patience: Duration) -> Self {
        Self {
            patience,
            opened: AtomicU64::new(0),
        }
    }
}

/// An answer's head, its body on the way, and the connection that brings it (gRPC shares one).
pub type Answered = (Response<Incoming>, Option<Lease>);

/// Sends a request to `address`.
///
/// # Errors
/// See [`Unanswered`].
pub async fn send(
    address: &Arc<str>,
    speech: Speech,
    request: Request<Outgoing>,
    reach: &Reach,
) -> Result<Answered, Unanswered> {
    match speech {
        Speech::Http => send_http(address, request, reach).await,
        Speech::Grpc => send_grpc(address, request, reach).await,
    }
}

async fn send_http(
    address: &Arc<str>,
    mut request: Request<Outgoing>,
    reach: &Reach,
) -> Result<Answered, Unanswered> {
    while let Some((mut sender, rested)) = take(address) {
        if rested > NEWS {
            // Its end may have come meanwhile; one turn of the event loop brings that news.
            tokio::task::yield_now().await;
            if !sender.is_ready() {
                continue;
            }
        }
        let same = repeatable(&request);
        match sender.try_send_request(request).await {
            Ok(answer) => return Ok((answer, Some(lease(address, sender)))),
            Err(mut failed) => match (failed.take_message(), same) {
                (Some(unsent), _) => request = unsent,
                (None, Some(same)) => {
                    request = same;
                    break;
                }
                (None, None) => return Err(Unanswered::Broken(cause(&failed.into_error()))),
            },
        }
    }
    let mut sender = match connected(address, reach, handshake_http).await {
        Ok(sender) => sender,
        Err(why) => return Err(Unanswered::Unreachable(Box::new(request), why)),
    };
    match sender.try_send_request(request).await {
        Ok(answer) => Ok((answer, Some(lease(address, sender)))),
        Err(failed) => Err(unanswered(failed)),
    }
}

/// The same request again, if it only reads and has no body.
fn repeatable(request: &Request<Outgoing>) -> Option<Request<Outgoing>> {
    if !request.method().is_safe() || !matches!(request.body(), Outgoing::Whole(None)) {
        return None;
    }
    let mut same = Request::new(Outgoing::Whole(None));
    *same.method_mut() = request.method().clone();
    *same.uri_mut() = request.uri().clone();
    *same.headers_mut() = request.headers().clone();
    Some(same)
}

fn lease(address: &Arc<str>, sender: http1::SendRequest<Outgoing>) -> Lease {
    Lease {
        address: Arc::clone(address),
        sender,
    }
}

/// An idle connection that is still good, and how long it has rested.
fn take(address: &Arc<str>) -> Option<(http1::SendRequest<Outgoing>, Duration)> {
    POOL.with_borrow_mut(|pool| {
        let idle = pool.idle.get_mut(address)?;
        let now = Instant::now();
        drop_stale(idle, now);
        // The last one in is the warmest.
        let ready = idle.iter().rposition(|one| one.sender.is_ready())?;
        let one = idle.remove(ready);
        Some((one.sender, now - one.since))
    })
}

/// Drops connections that have rested too long; they stand in the order of their rest.
fn drop_stale(idle: &mut Vec<Idle>, now: Instant) {
    let stale = idle.partition_point(|one| now - one.since > IDLE);
    idle.drain(..stale);
}

/// Closes what nobody has used for long, also of components that are gone; one such task runs on each
/// I/O thread.
pub async fn sweep() {
    loop {
        tokio::time::sleep(IDLE).await;
        POOL.with_borrow_mut(|pool| {
            let now = Instant::now();
            pool.idle.retain(|_, idle| {
                drop_stale(idle, now);
                idle.retain(|one| !one.sender.is_closed());
                !idle.is_empty()
            });
            pool.grpc.retain(|_, sender| !sender.is_closed());
        });
    }
}

async fn send_grpc(
    address: &Arc<str>,
    mut request: Request<Outgoing>,
    reach: &Reach,
) -> Result<Answered, Unanswered> {
    let known = POOL.with_borrow(|pool| pool.grpc.get(address).cloned());
    if let Some(mut sender) = known.filter(|sender| !sender.is_closed()) {
        match sender.try_send_request(request).await {
            Ok(answer) => return Ok((answer, None)),
            Err(mut failed) => match failed.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(Unanswered::Broken(cause(&failed.into_error()))),
            },
        }
    }
    let mut sender = match connected(address, reach, handshake_grpc).await {
        Ok(sender) => sender,
        Err(why) => return Err(Unanswered::Unreachable(Box::new(request), why)),
    };
    let kept = sender.clone();
    POOL.with_borrow_mut(|pool| pool.grpc.insert(Arc::clone(address), kept));
    match sender.try_send_request(request).await {
        Ok(answer) => Ok((answer, None)),
        Err(failed) => Err(unanswered(failed)),
    }
}

/// A failure on a new connection: did the component see anything of the request?
fn unanswered(mut failed: TrySendError<Request<Outgoing>>) -> Unanswered {
    let unsent = failed.take_message();
    let why = cause(&failed.into_error());
    match unsent {
        Some(request) => Unanswered::Unreachable(Box::new(request), why),
        None => Unanswered::Broken(why),
    }
}

async fn connected<S, F: Future<Output = hyper::Result<S>>>(
    address: &str,
    reach: &Reach,
    handshake: impl FnOnce(Box<dyn Stream>) -> F,
) -> Result<S, String> {
    let connect = async {
        let stream = open(address).await?;
        handshake(stream).await.map_err(|why| cause(&why))
    };
    let patience = reach.patience;
    reach.opened.fetch_add(1, Ordering::Relaxed);
    match tokio::time::timeout(patience, connect).await {
        Ok(done) => done.map_err(|why| format!("cannot connect to {address}: {why}")),
        Err(_) => Err(format!(
            "cannot connect to {address} within {} s",
            patience.as_secs_f64()
        )),
    }
}

/// Opens what lies below HTTP: a socket in the file system, a TCP connection, or TLS on one.
async fn open(address: &str) -> Result<Box<dyn Stream>, String> {
    let why = |why: std::io::Error| why.to_string();
    if let Some(path) = address.strip_prefix(UNIX) {
        let stream = UnixStream::connect(path).await.map_err(why)?;
        return Ok(Box::new(InOnePiece(stream)));
    }
    let (tls, authority) = match address.strip_prefix(TLS) {
        Some(authority) => (true, authority),
        None => (false, address),
    };
    let stream = TcpStream::connect(authority).await.map_err(why)?;
    stream.set_nodelay(true).map_err(why)?;
    Ok(match tls {
        true => Box::new(secured(stream, authority).await?),
        false => Box::new(InOnePiece(stream)),
    })
}

async fn handshake_http(stream: Box<dyn Stream>) -> hyper::Result<http1::SendRequest<Outgoing>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // How it ended is told to whoever waits for an answer on it.
    tokio::spawn(connection);
    sender.ready().await?;
    Ok(sender)
}

async fn handshake_grpc(stream: Box<dyn Stream>) -> hyper::Result<http2::SendRequest<Outgoing>> {
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(1 << 20)
        .max_send_buf_size(4 << 20)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(connection);
    sender.ready().await?;
    Ok(sender)
}

/// The innermost cause of a failure, which says most.
fn cause(error: &hyper::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}
