// SPDX-License-Identifier: Apache-2.0
//! What has begun to arrive must arrive: heads of requests, and the frames of HTTP/2.
//!
//! A request's head must arrive within the arrival timeout once its first byte has. Watching that with a
//! timer per request would cost more than parsing it, so each connection only notes when it began to
//! receive, and one task per I/O thread looks around now and then ([`sweep`]). A connection that waits
//! for its next request is idle and may wait for ever; one on the gRPC port must have opened first.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nerite_logic::wire::grpc::{Arrival, authority};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::small_writes::poll_write_slices;
use crate::spelling::Heard;

/// How far the head of a request has come.
#[derive(Debug)]
pub struct Progress {
    /// Milliseconds on the sweeper's clock, plus one, at the first byte; 0 while nothing is awaited, and [`BUSY`]
    /// while an HTTP/1 request is answered.
    receiving_since: AtomicU64,
    /// Whether anything was ever complete.
    opened: AtomicBool,
    /// Rung when it has taken too long.
    overdue: Notify,
}

/// What comes now is a request's body, over which whoever reads it watches.
const BUSY: u64 = u64::MAX;

thread_local! {
    static WATCHED: RefCell<Watch> = RefCell::new(Watch { began: Instant::now(), list: Vec::new() });
}

struct Watch {
    began: Instant,
    list: Vec<Weak<Progress>>,
}

impl Progress {
    /// A new one, which the sweeper of this thread looks at.
    pub fn watched() -> Arc<Self> {
        let progress = Arc::new(Self {
            receiving_since: AtomicU64::new(0),
            opened: AtomicBool::new(false),
            overdue: Notify::new(),
        });
        WATCHED.with_borrow_mut(|watch| watch.list.push(Arc::downgrade(&progress)));
        progress
    }

    /// What was on its way has come in full.
    pub fn complete(&self) {
        self.receiving_since.store(0, Ordering::Relaxed);
        self.opened.store(true, Ordering::Relaxed);
    }

    /// The head of an HTTP/1 request has come in full, and it is being answered.
    pub fn answering(&self) {
        self.receiving_since.store(BUSY, Ordering::Relaxed);
        self.opened.store(true, Ordering::Relaxed);
    }

    /// It has its answer: what comes from now on is the next one's head.
    pub fn answered(&self) {
        self.receiving_since.store(0, Ordering::Relaxed);
    }

    /// Whether anything has come in full yet.
    pub fn has_opened(&self) -> bool {
        self.opened.load(Ordering::Relaxed)
    }

    /// Waits until what is on its way has taken too long.
    pub async fn overdue(&self) {
        self.overdue.notified().await;
    }

    /// Something is on its way; the first call after it was complete counts.
    pub fn received(&self) {
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
                if since != 0 && since != BUSY && now.saturating_sub(since) > millis(limit) {
                    progress.overdue.notify_one();
                }
                true
            });
        });
    }
}

/// A socket that notes when bytes come.
pub struct Watched<S> {
    stream: S,
    progress: Arc<Progress>,
    /// Where the bytes are HTTP/2: its frames. In HTTP/1 any byte belongs to a request.
    frames: Option<Arrival>,
    /// Whether the authorities of calls are paths.
    tamed: bool,
    /// Who listens to what is read, if anybody.
    heard: Option<Arc<Heard>>,
}

impl<S> Watched<S> {
    /// One on which HTTP/1 is spoken: whoever answers says when a head is complete.
    pub const fn http(stream: S, progress: Arc<Progress>) -> Self {
        Self {
            stream,
            progress,
            frames: None,
            tamed: false,
            heard: None,
        }
    }

    /// One on which HTTP/2 is spoken.
    pub const fn http2(stream: S, progress: Arc<Progress>, frames: Arrival) -> Self {
        Self {
            stream,
            progress,
            frames: Some(frames),
            tamed: false,
            heard: None,
        }
    }

    /// The same, for a socket in the file system (see [`authority`]).
    pub const fn with_paths(mut self, tamed: bool) -> Self {
        self.tamed = tamed;
        self
    }

    /// The same; somebody listens to what is read.
    pub fn overheard(mut self, heard: Option<Arc<Heard>>) -> Self {
        self.heard = heard;
        self
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let this = &mut *self;
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        let came = buffer.filled().get(before..).unwrap_or_default();
        if !came.is_empty() {
            if let Some(heard) = &this.heard {
                heard.note(came);
            }
            let mut blocks = Vec::new(); // allocates for sockets in the file system alone
            let tamed = this.tamed;
            let owes = this.frames.as_mut().is_none_or(|it| {
                it.walk(came, |block| {
                    if tamed {
                        blocks.push(block);
                    }
                })
            });
            for block in blocks {
                let came = buffer.filled_mut().get_mut(before..);
                if let Some(block) = came.and_then(|came| came.get_mut(block)) {
                    authority::tame(block);
                }
            }
            match owes {
                true => this.progress.received(),
                false => this.progress.complete(),
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
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
        poll_write_slices(Pin::new(&mut self.stream), context, slices)
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
