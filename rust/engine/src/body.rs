// SPDX-License-Identifier: Apache-2.0
//! Bodies in both directions: read once under a limit, written as a list of slices.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::HeaderMap;
use hyper::body::Incoming;
use smallvec::SmallVec;

use nerite_logic::wire::grpc::frame::PREFIX;

use crate::buffers::{ALIGNMENT, AlignedBuffer};
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

/// Why a body could not be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is longer than the limit. Holds its length if the client declared it.
    TooLong(Option<u64>),
    /// Nothing came for too long.
    TooSlow,
    /// The connection broke, or its framing is wrong.
    Broken,
}

/// How a body is read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Most bytes it may have.
    pub limit: usize,
    /// What of it should lie on a cache line.
    pub align: Align,
    /// How long to wait for the next piece.
    pub patience: Duration,
}

/// What of a body should lie on a cache line, so that tensors can be read in place.
#[derive(Clone, Copy, Debug)]
pub enum Align {
    /// This offset: where the tensors begin.
    At(usize),
    /// The end of the gRPC message that it is: raw contents are the last field, so a tensor whose size is
    /// a multiple of its elements' begins where they may be read.
    MessageEnd,
}

impl Align {
    /// The offset to align, and the length that a gRPC prefix promises.
    fn read(self, first: &[u8]) -> (usize, Option<u64>) {
        match (self, first) {
            (Self::At(offset), _) => (offset, None),
            (Self::MessageEnd, [_, a, b, c, d, ..]) => {
                let length = PREFIX as u64 + u64::from(u32::from_be_bytes([*a, *b, *c, *d]));
                (usize::try_from(length).unwrap_or(0), Some(length))
            }
            (Self::MessageEnd, _) => (0, None),
        }
    }
}

/// Reads a whole body. One that came with its head is passed on without a copy; a longer one is copied
/// once, piece by piece, to where it will be used from.
///
/// # Errors
/// See [`Unreadable`]; nothing above the limit is ever allocated.
pub async fn read(body: &mut Incoming, how: Reading) -> Result<Bytes, Unreadable> {
    let declared = body.size_hint().exact();
    if declared.is_some_and(|length| length > how.limit as u64) {
        return Err(Unreadable::TooLong(declared));
    }
    let Some(first) = next_piece(body, how.patience).await? else {
        return Ok(Bytes::new());
    };
    let complete = declared == Some(first.len() as u64) || body.is_end_stream();
    if complete && first.len() <= how.limit {
        return Ok(first);
    }
    let (align_at, promised) = how.align.read(&first);
    if promised.is_some_and(|length| length > how.limit as u64) {
        return Err(Unreadable::TooLong(promised));
    }
    // A promise costs its maker nothing, so it is believed only so far.
    let room = declared.or(promised.map(|length| length.min(BELIEVED)));
    let mut place = Place::new(room, how.limit, align_at);
    place.append(&first)?;
    drop(first);
    while let Some(piece) = next_piece(body, how.patience).await? {
        place.append(&piece)?;
    }
    Ok(place.into_bytes())
}

/// Reads what is left of a body that nobody wants, so that the connection can be used again; whether it
/// ended within `limit` bytes and `patience`.
pub async fn discard(body: &mut Incoming, limit: u64, patience: Duration) -> bool {
    if body.size_hint().lower() > limit {
        return false;
    }
    let to_the_end = async {
        let mut left = limit;
        loop {
            match next_piece(body, patience).await {
                Ok(None) => return true,
                Err(_) => return false,
                Ok(Some(piece)) => match left.checked_sub(piece.len() as u64) {
                    Some(rest) => left = rest,
                    None => return false,
                },
            }
        }
    };
    // The whole of it gets the patience of one piece: whoever is refused has no claim to more.
    tokio::time::timeout(patience, to_the_end)
        .await
        .unwrap_or(false)
}

async fn next_piece(body: &mut Incoming, patience: Duration) -> Result<Option<Bytes>, Unreadable> {
    loop {
        let mut next = pin!(poll_fn(|context| Pin::new(&mut *body).poll_frame(context)));
        // Most pieces are there already: no timer for those.
        let ready = poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await;
        let frame = match ready {
            Poll::Ready(frame) => frame,
            Poll::Pending => tokio::time::timeout(patience, next)
                .await
                .map_err(|_| Unreadable::TooSlow)?,
        };
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(Unreadable::Broken),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => return Ok(Some(data)),
                Err(_trailers) => {}
            },
        }
    }
}

/// Where the pieces of a long body come together.
pub struct Place {
    buffer: Option<AlignedBuffer>,
    /// Unused bytes in front, so that `align_at` lies on a cache line.
    shift: usize,
    limit: usize,
    length: usize,
}

/// A body of undeclared length starts with this much room.
const FIRST_ROOM: usize = 64 << 10;
/// A gRPC message gets at most this much room before its bytes have come.
const BELIEVED: u64 = 4 << 20;

impl Place {
    /// An empty place for a body of this length, if that is known, and at most `limit` bytes.
    pub fn new(room: Option<u64>, limit: usize, align_at: usize) -> Self {
        let shift = (ALIGNMENT - align_at % ALIGNMENT) % ALIGNMENT;
        let room = room
            .and_then(|length| usize::try_from(length).ok())
            .unwrap_or(FIRST_ROOM);
        let mut buffer = AlignedBuffer::with_capacity(shift + room.min(limit));
        if let Some(buffer) = &mut buffer {
            buffer.skip(shift);
        }
        Self {
            buffer,
            shift,
            limit,
            length: 0,
        }
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// If that is more than the limit.
    pub fn append(&mut self, piece: &[u8]) -> Result<(), Unreadable> {
        self.length += piece.len();
        if self.length > self.limit {
            return Err(Unreadable::TooLong(None));
        }
        let needed = self.shift + self.length;
        let mut buffer = self.buffer.take().ok_or(Unreadable::Broken)?;
        if buffer.capacity() < needed {
            let more = (buffer.capacity() * 2)
                .max(needed)
                .min(self.shift + self.limit);
            let mut larger = AlignedBuffer::with_capacity(more).ok_or(Unreadable::Broken)?;
            larger.append(buffer.as_slice());
            buffer = larger;
        }
        buffer.append(piece);
        self.buffer = Some(buffer);
        Ok(())
    }

    /// The body.
    pub fn into_bytes(self) -> Bytes {
        let mut bytes = self.buffer.map_or_else(Bytes::new, Bytes::from_owner);
        bytes.advance(self.shift.min(bytes.len()));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_of_a_long_body_lie_on_a_cache_line() {
        for align_at in [0, 1, 63, 64, 200] {
            let mut place = Place::new(Some(300), 1000, align_at);
            place.append(&[1; 150]).unwrap();
            place.append(&[2; 150]).unwrap();
            let body = place.into_bytes();
            assert_eq!(body.len(), 300);
            assert_eq!((body.as_ptr() as usize + align_at) % ALIGNMENT, 0);
            assert_eq!((body.first(), body.last()), (Some(&1), Some(&2)));
        }
    }

    #[test]
    fn the_end_of_a_grpc_message_is_what_its_prefix_says() {
        assert_eq!(
            Align::MessageEnd.read(&[0, 0, 0, 1, 2, 9]),
            (263, Some(263))
        );
        assert_eq!(Align::MessageEnd.read(&[0, 0, 0]), (0, None));
        assert_eq!(Align::At(7).read(&[0, 0, 0, 1, 2]), (7, None));
    }

    #[test]
    fn a_body_that_outgrows_its_room_moves_and_one_that_outgrows_the_limit_ends() {
        let mut place = Place::new(None, FIRST_ROOM * 4, 10);
        for _ in 0..4 {
            place.append(&vec![5; FIRST_ROOM]).unwrap();
        }
        assert_eq!(place.append(&[5]), Err(Unreadable::TooLong(None)));
    }
}
