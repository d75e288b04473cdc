// SPDX-License-Identifier: Apache-2.0
//! Bodies of answers: written as a list of slices, or asked for piece by piece ([`crate::reading`] is the way in).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::HeaderMap;
use smallvec::SmallVec;

use crate::trace::{Point, Traced};

/// What comes next of a body whose end is not known yet.
#[derive(Debug)]
pub enum Piece {
    /// Slices to send.
    Data(Bytes, SmallVec<[Bytes; 2]>),
    /// The end, with trailers if the protocol has them.
    End(Option<HeaderMap>),
}

/// Where such a body comes from. It is asked only when the connection can take more, and dropped when
/// the client is gone.
pub trait Source: std::fmt::Debug + Send {
    /// The next piece.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece>;
}

/// An answer's body: a few slices, and trailers if the protocol has them.
#[derive(Debug, Default)]
pub struct ReplyBody {
    /// What is left to send, last slice first.
    left: SmallVec<[Bytes; 2]>,
    trailers: Option<HeaderMap>,
    /// What follows, if that is not known yet.
    source: Option<Box<dyn Source>>,
    /// Ends with the body.
    trace: Option<Traced>,
}

impl ReplyBody {
    /// A body of one piece.
    pub fn one(bytes: Bytes) -> Self {
        Self::many(bytes, SmallVec::new())
    }

    /// A body of `head` and then `tail`.
    pub fn many(head: Bytes, tail: SmallVec<[Bytes; 2]>) -> Self {
        Self {
            left: in_reverse(head, tail),
            ..Self::default()
        }
    }

    /// A body that is not known yet.
    pub fn streamed(source: Box<dyn Source>) -> Self {
        Self {
            source: Some(source),
            ..Self::default()
        }
    }

    /// All of it, if it is known.
    pub fn into_bytes(mut self) -> Option<Bytes> {
        if self.source.is_some() {
            return None;
        }
        match self.left.pop() {
            None => Some(Bytes::new()),
            Some(only) if self.left.is_empty() => Some(only),
            Some(first) => {
                let rest = self.left.iter().map(Bytes::len).sum::<usize>();
                let mut whole = BytesMut::with_capacity(first.len() + rest);
                whole.extend_from_slice(&first);
                let rest = self.left.iter().rev();
                rest.for_each(|slice| whole.extend_from_slice(slice));
                Some(whole.freeze())
            }
        }
    }

    /// Whether what follows is not known yet.
    pub const fn is_streamed(&self) -> bool {
        self.source.is_some()
    }

    /// Puts something before the source of a body that is not known yet.
    pub fn through(&mut self, wrap: impl FnOnce(Box<dyn Source>) -> Box<dyn Source>) {
        self.source = self.source.take().map(wrap);
    }

    fn poll_source(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while let Some(source) = &mut self.source {
            match ready!(source.poll_piece(context)) {
                Piece::Data(head, tail) => {
                    self.left = in_reverse(head, tail);
                    if let Some(slice) = self.left.pop() {
                        return Poll::Ready(Some(Ok(Frame::data(slice))));
                    }
                }
                Piece::End(trailers) => {
                    self.source = None;
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
            }
        }
        Poll::Ready(None)
    }

    /// The same; its trace, if it has one, ends when the connection has taken it.
    pub fn with_trace(mut self, trace: Option<Traced>) -> Self {
        if let Some(traced) = &trace {
            traced.trace().mark(Point::SendStart);
        }
        self.trace = trace;
        self
    }

    /// The same, with trailers behind it.
    pub fn with_trailers(mut self, trailers: HeaderMap) -> Self {
        self.trailers = Some(trailers);
        self
    }
}

fn in_reverse(head: Bytes, tail: SmallVec<[Bytes; 2]>) -> SmallVec<[Bytes; 2]> {
    let mut left = tail;
    left.reverse();
    left.push(head);
    left.retain(|slice| !slice.is_empty());
    left
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(slice) = self.left.pop() {
            return Poll::Ready(Some(Ok(Frame::data(slice))));
        }
        if self.source.is_some() {
            return self.poll_source(context);
        }
        Poll::Ready(
            self.trailers
                .take()
                .map(|trailers| Ok(Frame::trailers(trailers))),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.trailers.is_none() && self.source.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.source.is_some() {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.left.iter().map(|slice| slice.len() as u64).sum())
    }
}
