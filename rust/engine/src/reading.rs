// SPDX-License-Identifier: Apache-2.0
//! Bodies of requests: read once under a limit, in a time that grows with what has come.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::Body;
use nerite_logic::wire::grpc::frame::PREFIX;
use tokio::time::Instant;

use crate::buffers::{ALIGNMENT, AlignedBuffer};

/// Why a body could not be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is longer than the limit. Holds its length if the client declared it.
    TooLong(Option<u64>),
    /// Nothing came for too long, or too little.
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
    /// How long to wait for the next piece, and how much longer than [`SLOWEST`] lets it the whole may take.
    pub patience: Duration,
}

/// Bytes a second that a body must bring beyond its patience (Apache's `MinRate`): a body that drips holds its
/// place and its memory no longer than one that stops.
const SLOWEST: u64 = 500;

/// How a body has come so far. Only waiting for it counts; one that came with its head looks at no clock.
#[derive(Debug)]
pub struct Pace {
    patience: Duration,
    waited: Duration,
    came: u64,
}

impl Pace {
    /// That of a body of which nothing has come.
    pub const fn new(patience: Duration) -> Self {
        Self {
            patience,
            waited: Duration::ZERO,
            came: 0,
        }
    }

    /// How long the next piece may be waited for.
    pub fn left(&self) -> Duration {
        let earned = Duration::from_millis(self.came.saturating_mul(1000) / SLOWEST);
        let left = (self.patience + earned).saturating_sub(self.waited);
        left.min(self.patience)
    }

    /// It was waited for so long.
    pub fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// So many bytes have come.
    pub const fn came(&mut self, bytes: usize) {
        self.came += bytes as u64;
    }
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
pub async fn read<B: Pieces>(body: &mut B, how: Reading) -> Result<Bytes, Unreadable> {
    let mut pace = Pace::new(how.patience);
    let declared = body.size_hint().exact();
    if declared.is_some_and(|length| length > how.limit as u64) {
        return Err(Unreadable::TooLong(declared));
    }
    let Some(first) = next_piece(body, &mut pace).await? else {
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
    while let Some(piece) = next_piece(body, &mut pace).await? {
        place.append(&piece)?;
    }
    Ok(place.into_bytes())
}

/// Most bytes that are read only to keep a connection whose request was answered without them.
pub const UNWANTED: u64 = 1 << 20;

/// Reads what is left of a body that nobody wants, so that the connection can be used again; whether it
/// ended within `limit` bytes and `patience`.
pub async fn discard<B: Pieces>(body: &mut B, limit: u64, patience: Duration) -> bool {
    if body.size_hint().lower() > limit {
        return false;
    }
    let to_the_end = async {
        let (mut left, mut pace) = (limit, Pace::new(patience));
        loop {
            match next_piece(body, &mut pace).await {
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

/// A body of a request, or of a test.
pub trait Pieces: Body<Data = Bytes> + Unpin {}

impl<B: Body<Data = Bytes> + Unpin> Pieces for B {}

async fn next_piece<B: Pieces>(body: &mut B, pace: &mut Pace) -> Result<Option<Bytes>, Unreadable> {
    loop {
        let mut next = pin!(poll_fn(|context| Pin::new(&mut *body).poll_frame(context)));
        // Most pieces are there already: no timer for those.
        let ready = poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await;
        let frame = match ready {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let began = Instant::now();
                let waited = tokio::time::timeout_at(began + pace.left(), next).await;
                pace.waited(began.elapsed());
                waited.map_err(|_| Unreadable::TooSlow)?
            }
        };
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(Unreadable::Broken),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    pace.came(data.len());
                    return Ok(Some(data));
                }
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
    use std::convert::Infallible;
    use std::task::{Context, ready};

    use http_body::Frame;

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

    /// A body that brings `size` bytes every `pause`, and ends after `pieces`.
    struct Dripping {
        pieces: u32,
        size: usize,
        pause: Duration,
        next: Pin<Box<tokio::time::Sleep>>,
    }

    impl Body for Dripping {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.pieces == 0 {
                return Poll::Ready(None);
            }
            ready!(self.next.as_mut().poll(context));
            self.pieces -= 1;
            self.next = Box::pin(tokio::time::sleep(self.pause));
            Poll::Ready(Some(Ok(Frame::data(vec![0; self.size].into()))))
        }
    }

    /// What is read of such a body with a patience of 30 s, and the seconds that it took.
    fn read_of(pieces: u32, size: usize, pause_secs: u64) -> (Result<usize, Unreadable>, u64) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let pause = Duration::from_secs(pause_secs);
            let mut body = Dripping {
                pieces,
                size,
                pause,
                next: Box::pin(tokio::time::sleep(pause)),
            };
            let how = Reading {
                limit: 1 << 30,
                align: Align::At(0),
                patience: Duration::from_secs(30),
            };
            let began = Instant::now();
            let body = read(&mut body, how).await;
            (body.map(|body| body.len()), began.elapsed().as_secs())
        })
    }

    #[test]
    fn a_body_that_stops_is_waited_for_as_long_as_its_next_piece_may_take() {
        assert_eq!(read_of(3, 1 << 20, 29), (Ok(3 << 20), 87));
        assert_eq!(read_of(3, 1 << 20, 31), (Err(Unreadable::TooSlow), 30));
    }

    #[test]
    fn a_body_that_drips_has_its_patience_and_what_its_bytes_earn() {
        // A byte a second earns 2 ms a second.
        assert_eq!(read_of(u32::MAX, 1, 1), (Err(Unreadable::TooSlow), 30));
        // 400 bytes earn 0.8 s, and the 147th piece would come a fifth too late.
        assert_eq!(read_of(u32::MAX, 400, 1), (Err(Unreadable::TooSlow), 146));
        assert_eq!(read_of(140, 400, 1), (Ok(56_000), 140));
        // Whoever sends as fast as modems did has all the time that it takes.
        assert_eq!(read_of(10_000, 500, 1), (Ok(5_000_000), 10_000));
    }

    #[test]
    fn a_body_that_is_there_needs_no_clock() {
        // Without a runtime a timer would panic.
        let mut body = http_body_of(b"abc");
        let how = Reading {
            limit: 3,
            align: Align::At(0),
            patience: Duration::ZERO,
        };
        let mut context = Context::from_waker(std::task::Waker::noop());
        let read = pin!(read(&mut body, how)).poll(&mut context);
        assert_eq!(read, Poll::Ready(Ok(Bytes::from_static(b"abc"))));
    }

    fn http_body_of(bytes: &'static [u8]) -> crate::body::ReplyBody {
        crate::body::ReplyBody::one(Bytes::from_static(bytes))
    }
}
