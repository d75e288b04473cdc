// SPDX-License-Identifier: Apache-2.0
//! Compressed bodies and messages on their way in and out: short ones here, long ones on a thread that may
//! take its time. What is compressed how is decided in `nerite_logic::wire::compression`.

use bytes::Bytes;
use nerite_logic::wire::compression::{Effort, Encoding, Unexpandable, WORTH_WHILE};
use smallvec::SmallVec;

use crate::reading::Place;

/// Compressed data up to this size is looked at on the I/O thread,
const SHORT_IN: usize = 8 << 10;
/// and read there if no more than this comes out of it.
const SHORT_OUT: usize = 64 << 10;
/// Answers up to this size are compressed there.
const SHORT_ANSWER: usize = 32 << 10;

/// Pieces of an answer.
pub type Pieces = SmallVec<[Bytes; 3]>;

/// Why compressed data could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// More comes out than the limit allows.
    TooLong,
    /// It is damaged, or ends early.
    Broken,
}

/// What `data` says, in memory whose byte `align_at` lies on a cache line. Nothing beyond `limit` is made.
///
/// # Errors
/// See [`Unreadable`].
pub async fn expand(
    encoding: Encoding,
    data: Bytes,
    limit: usize,
    align_at: usize,
) -> Result<Bytes, Unreadable> {
    if data.len() <= SHORT_IN {
        let here = unpack(encoding, &data, limit.min(SHORT_OUT), align_at);
        if here != Err(Unreadable::TooLong) || limit <= SHORT_OUT {
            return here;
        }
    }
    let work = move || unpack(encoding, &data, limit, align_at);
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or(Err(Unreadable::Broken))
}

fn unpack(
    encoding: Encoding,
    data: &[u8],
    limit: usize,
    align_at: usize,
) -> Result<Bytes, Unreadable> {
    let mut place = Place::new(None, limit, align_at);
    match encoding.expand(data, |piece| place.append(piece)) {
        Ok(()) => Ok(place.into_bytes()),
        Err(Unexpandable::Stopped(_)) => Err(Unreadable::TooLong),
        Err(Unexpandable::Broken) => Err(Unreadable::Broken),
    }
}

/// The pieces in one, compressed; `None` if that would not be shorter.
pub async fn shrink(encoding: Encoding, effort: Effort, pieces: Pieces) -> Option<Bytes> {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    if length < WORTH_WHILE {
        return None;
    }
    let work = move || {
        let made = encoding.compress(effort, &pieces).ok()?;
        (made.len() < length).then(|| Bytes::from(made))
    };
    match length <= SHORT_ANSWER {
        true => work(),
        false => tokio::task::spawn_blocking(work).await.ok().flatten(),
    }
}
