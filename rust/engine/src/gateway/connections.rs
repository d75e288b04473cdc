// SPDX-License-Identifier: Apache-2.0
//! Client connections. One port speaks HTTP/1.1 and HTTP/2: the first bytes tell.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nerite_logic::wire::grpc::Arrival;
use tokio::net::TcpStream;

use super::proxy::{self, Origin};
use super::shared::Shared;
use crate::arrival::{Progress, Watched};
use crate::connection::{follow, http2};
use crate::door::drain_begins;
use crate::listening::{OUT_OF_FILES, is_of_one_connection};

/// How HTTP/2 begins; no method of HTTP/1.1 does.
const PREFACE: &[u8] = b"PRI";
/// How long to wait for the rest of the first three bytes.
const MOMENT: Duration = Duration::from_millis(1);
/// How long a peer may be silent before it is asked whether it is there, and how long it may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(7200), Duration::from_secs(20));
/// Most calls at a time on one connection.
const MAX_STREAMS: u32 = 1024;

/// Accepts connections until the gateway drains; on a port that is `named`, all requests are to that host.
pub async fn accept(listener: TcpListener, named: Option<Arc<str>>, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let mut draining = shared.draining();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain_begins(&mut draining) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) if shared.connection_began() => {
                let peer = HeaderValue::from_str(&peer.ip().to_string());
                let origin = Arc::new(Origin {
                    // An address has no character that a header could not carry.
                    peer: peer.unwrap_or_else(|_| HeaderValue::from_static("unknown")),
                    named: named.clone(),
                });
                tokio::spawn(serve(stream, origin, Counted(Arc::clone(&shared))));
            }
            Ok(_) => {}
            Err(why) if is_of_one_connection(&why) => {}
            Err(_) => tokio::time::sleep(OUT_OF_FILES).await,
        }
    }
}

/// A connection counted among the open ones until it is dropped.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connection_ended();
    }
}

async fn serve(stream: TcpStream, origin: Arc<Origin>, counted: Counted) {
    let mut draining = counted.0.draining();
    let progress = Progress::watched();
    let version = tokio::select! {
        version = is_http2(&stream, &progress) => version,
        () = progress.overdue() => return,
        () = drain_begins(&mut draining) => return,
    };
    if stream.set_nodelay(true).is_err() {
        return; // The peer is gone already.
    }
    match version {
        Ok(true) => serve_http2(stream, origin, progress, &counted.0).await,
        Ok(false) => serve_http1(stream, origin, progress, &counted.0).await,
        Err(_) => {}
    }
}

/// A peer that has begun must go on: half a preface is not waited for longer than half a head.
async fn is_http2(stream: &TcpStream, progress: &Progress) -> std::io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut first).await?;
        progress.received();
        let begun = first.get(..seen).unwrap_or_default();
        if seen == 0 || !PREFACE.starts_with(begun) {
            return Ok(false);
        }
        if seen == PREFACE.len() {
            return Ok(true);
        }
        tokio::time::sleep(MOMENT).await;
    }
}

async fn serve_http1(
    stream: TcpStream,
    origin: Arc<Origin>,
    progress: Arc<Progress>,
    shared: &Arc<Shared>,
) {
    let service = service_fn({
        let (progress, shared) = (Arc::clone(&progress), Arc::clone(shared));
        move |request| {
            progress.answering();
            let progress = Arc::clone(&progress);
            let (shared, origin) = (Arc::clone(&shared), Arc::clone(&origin));
            async move {
                let reply = proxy::answer(request, &origin, &shared).await;
                progress.answered();
                reply
            }
        }
    });
    let io = TokioIo::new(Watched::http(stream, Arc::clone(&progress)));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
    follow(connection, progress, shared.draining()).await;
}

async fn serve_http2(
    stream: TcpStream,
    origin: Arc<Origin>,
    progress: Arc<Progress>,
    shared: &Arc<Shared>,
) {
    let service = service_fn({
        let shared = Arc::clone(shared);
        move |request| {
            let (shared, origin) = (Arc::clone(&shared), Arc::clone(&origin));
            async move { proxy::answer(request, &origin, &shared).await }
        }
    });
    let io = Watched::http2(stream, Arc::clone(&progress), Arrival::default());
    let connection = http2(Some(KEEPALIVE.0), KEEPALIVE.1, MAX_STREAMS)
        .serve_connection(TokioIo::new(io), service);
    follow(connection, progress, shared.draining()).await;
}
