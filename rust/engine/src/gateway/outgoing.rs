// SPDX-License-Identifier: Apache-2.0
//! Bodies on their way from a client to a component, piece by piece, with a tap where they are told.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep};

use super::told::Tap;
use crate::reading::Pace;

/// What a component is sent.
#[derive(Debug)]
pub enum Outgoing {
    /// All of it is here.
    Whole(Option<Bytes>),
    /// It comes from the client as it is sent on.
    Passing(Box<Passing>),
}

/// A client's body on its way.
#[derive(Debug)]
pub struct Passing {
    /// `None` once what is left of it was given back.
    body: Option<Incoming>,
    /// Bytes it may still have.
    left: u64,
    fate: Arc<Fate>,
    tap: Option<Tap>,
    /// How fast it must come, unless it may rest as calls do.
    pace: Option<Pace>,
    /// Since when its next piece is waited for, and until when.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

/// What became of a client's body, for whoever has to say why there is no answer.
#[derive(Debug, Default)]
pub struct Fate {
    what: AtomicU8,
    /// What was not asked for when whoever passed it on let go of it.
    rest: Mutex<Option<Incoming>>,
}

impl Fate {
    const ENDED: u8 = 4;
    const OVERRUN: u8 = 1;
    const BROKEN: u8 = 2;
    const SLOW: u8 = 3;

    fn is(&self, what: u8) -> bool {
        self.what.load(Ordering::Relaxed) == what
    }

    fn becomes(&self, what: u8) {
        self.what.store(what, Ordering::Relaxed);
    }

    /// All of it came.
    pub fn is_whole(&self) -> bool {
        self.is(Self::ENDED)
    }

    /// What is left of it, if whoever passed it on has let go of it already.
    pub fn rest(&self) -> Option<Incoming> {
        self.rest.lock().take()
    }

    /// It had more bytes than it may.
    pub fn is_overrun(&self) -> bool {
        self.is(Self::OVERRUN)
    }

    /// It stopped, or came too slowly.
    pub fn is_slow(&self) -> bool {
        self.is(Self::SLOW)
    }

    /// The client broke it off, or its framing is wrong.
    pub fn is_broken(&self) -> bool {
        self.is(Self::BROKEN)
    }
}

impl Outgoing {
    /// A body of one piece.
    pub fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// A body that passes through; it breaks off if it has more than `limit` bytes, or does not keep pace.
    pub fn passing(
        body: Incoming,
        (limit, pace): (u64, Option<Pace>),
        fate: Arc<Fate>,
        tap: Option<Tap>,
    ) -> Self {
        if body.is_end_stream() {
            fate.becomes(Fate::ENDED);
            tap.into_iter().for_each(Tap::end);
            return Self::Whole(None);
        }
        Self::Passing(Box::new(Passing {
            body: Some(body),
            left: limit,
            fate,
            tap,
            pace,
            waiting: None,
        }))
    }
}

/// Whatever ends a body early.
type Anything = Box<dyn StdError + Send + Sync>;

/// The reason for which a body breaks off.
#[derive(Debug)]
pub struct BrokenOff(&'static str);

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for BrokenOff {}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Anything;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Passing(passing) => passing.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Passing(passing) => passing.has_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Self::Passing(passing) => {
                let body = passing.body.as_ref();
                body.map_or_else(SizeHint::default, Body::size_hint)
            }
        }
    }
}

impl Passing {
    fn has_ended(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    /// Whether what is waited for has taken too long.
    fn is_slow(&mut self, waits: bool, context: &mut Context<'_>) -> bool {
        let Some(pace) = &mut self.pace else {
            return false;
        };
        if waits {
            let (_, until) = self.waiting.get_or_insert_with(|| {
                let now = Instant::now();
                (now, Box::pin(tokio::time::sleep_until(now + pace.left())))
            });
            return until.as_mut().poll(context).is_ready();
        }
        if let Some((since, _)) = self.waiting.take() {
            pace.waited(since.elapsed());
        }
        false
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Anything>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(context);
        if self.is_slow(polled.is_pending(), context) {
            self.fate.becomes(Fate::SLOW);
            let why = BrokenOff("the body stopped coming, or came too slowly");
            return Poll::Ready(Some(Err(Box::new(why))));
        }
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            if let Some(pace) = &mut self.pace {
                pace.came(data.len());
            }
            let Some(left) = self.left.checked_sub(data.len() as u64) else {
                self.fate.becomes(Fate::OVERRUN);
                let why = BrokenOff("the body is larger than it may be");
                return Poll::Ready(Some(Err(Box::new(why))));
            };
            self.left = left;
            if let Some(tap) = &mut self.tap {
                tap.see(data);
            }
        }
        if let Poll::Ready(Some(Err(_))) = &polled {
            self.fate.becomes(Fate::BROKEN);
        } else if matches!(polled, Poll::Ready(None)) || self.has_ended() {
            self.fate.becomes(Fate::ENDED);
            self.tap.take().into_iter().for_each(Tap::end);
        }
        polled.map_err(Into::into)
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if !self.has_ended() {
            *self.fate.rest.lock() = self.body.take();
        }
    }
}
