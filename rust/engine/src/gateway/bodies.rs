// SPDX-License-Identifier: Apache-2.0
//! Bodies on their way from a component to a client, piece by piece, with a tap where they are told.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::live::Working;
use super::told::Tap;
use super::upstream::Lease;

/// What a client is sent.
pub enum Reply {
    /// All of it is here.
    Whole(Option<Bytes>),
    /// It comes from a component as it is sent on.
    Passing(Box<Passage>),
}

/// A component's answer on its way to the client. If the client goes, this is dropped, and the component's
/// connection or call is ended with it.
pub struct Passage {
    body: Incoming,
    lease: Option<Lease>,
    _working: Option<Working>,
    tap: Option<Tap>,
}

impl Reply {
    /// A body of one piece.
    pub fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// A body that passes through.
    pub fn passing(body: Incoming, lease: Option<Lease>, working: Option<Working>) -> Self {
        if body.is_end_stream() {
            lease.into_iter().for_each(Lease::done);
            return Self::Whole(None);
        }
        Self::Passing(Box::new(Passage {
            body,
            lease,
            _working: working,
            tap: None,
        }))
    }

    /// The same, with a tap on it.
    pub fn tapped(mut self, tap: Option<Tap>) -> Self {
        match (&mut self, tap) {
            (Self::Passing(passage), tap) => passage.tap = tap,
            (Self::Whole(bytes), Some(mut tap)) => {
                bytes.iter().for_each(|bytes| tap.see(bytes));
                tap.end();
            }
            (Self::Whole(_), None) => {}
        }
        self
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Passing(passage) => {
                let polled = Pin::new(&mut passage.body).poll_frame(context);
                if let (Poll::Ready(Some(Ok(frame))), Some(tap)) = (&polled, &mut passage.tap)
                    && let Some(data) = frame.data_ref()
                {
                    tap.see(data);
                }
                // Behind trailers nothing comes, and nobody asks.
                if matches!(&polled, Poll::Ready(None))
                    || matches!(&polled, Poll::Ready(Some(Ok(frame))) if frame.is_trailers())
                {
                    passage.end();
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Passing(passage) => passage.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Self::Passing(passage) => passage.body.size_hint(),
        }
    }
}

impl Passage {
    /// The whole body has passed.
    fn end(&mut self) {
        self.lease.take().into_iter().for_each(Lease::done);
        self.tap.take().into_iter().for_each(Tap::end);
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        // A body of known length is not asked again after its last piece.
        if self.body.is_end_stream() {
            self.end();
        }
    }
}

/// A whole body, at most `limit` bytes of it.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub async fn collected(mut body: Reply, limit: usize) -> Result<Bytes, String> {
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|why| format!("broke off: {why}"))?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if whole.len() + first.as_ref().map_or(0, Bytes::len) + piece.len() > limit {
            return Err(format!("has more than {limit} bytes"));
        }
        match first.take() {
            None if whole.is_empty() => first = Some(piece),
            begun => {
                begun
                    .iter()
                    .for_each(|begun| whole.extend_from_slice(begun));
                whole.extend_from_slice(&piece);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}
