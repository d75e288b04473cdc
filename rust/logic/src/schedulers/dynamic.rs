// SPDX-License-Identifier: Apache-2.0
//! The dynamic batcher's choice: how many of the waiting requests leave together (`spec/triton.md` 5.2).
//!
//! The rules, first match wins; rows are counted, not requests:
//! 1. the batch has `max_batch_size` rows, or the next request would not fit: send it (full);
//! 2. there is no delay, or the oldest request has waited that long: send what there is;
//! 3. a preferred size was reached: send exactly the largest one that was;
//! 4. the next request has another key, or the largest preferred size is exceeded: send what there is;
//! 5. otherwise wait for company.
//!
//! Triton puts 3 first, so that with preferred sizes below the maximum it sends small batches while a
//! full one is waiting; nobody gains by that.

use std::time::{Duration, Instant};

use super::Reason;
use super::levels::Levels;
use crate::spec::DynamicBatching;

/// Longer than any request lives, and short enough to be added to any time.
const LONGEST_DELAY: Duration = Duration::from_secs(365 * 24 * 3600);

/// What to do with the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send this many requests.
    Send(usize, Reason),
    /// Nothing before this time.
    Wait(Instant),
    /// Nothing waits.
    Empty,
}

/// The batcher: its settings, and how far it has looked into the queue.
#[derive(Debug)]
pub struct Dynamic {
    preferred: Vec<u32>,
    largest: u32,
    delay: Duration,
    limit: u32,
    walk: Walk,
}

/// What was found at the front of the queue. Kept from call to call, so that a batch that waits for
/// company costs one look per request and not one per request and newcomer.
#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    /// Requests looked at, all of one key and together within the limit.
    count: usize,
    /// Their rows.
    rows: u32,
    /// When the oldest of them arrived.
    oldest: Option<Instant>,
    /// How many of them make the largest preferred size that was met.
    preferred: Option<usize>,
    /// Why the request after them cannot join.
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// There is no room for it.
    Rows,
    /// Its key is another.
    Key,
}

impl Dynamic {
    /// A batcher that never exceeds `limit` rows.
    #[must_use]
    pub fn new(settings: &DynamicBatching, limit: u32) -> Self {
        let mut preferred: Vec<u32> = settings
            .preferred_sizes
            .iter()
            .copied()
            .filter(|size| *size <= limit)
            .collect();
        if preferred.is_empty() {
            preferred.push(limit);
        }
        Self {
            largest: preferred.iter().copied().max().unwrap_or(limit),
            preferred,
            delay: settings.max_queue_delay.min(LONGEST_DELAY),
            limit,
            walk: Walk::default(),
        }
    }

    /// Starts from the front of the queue again; to be called when anything but an append changed it.
    pub fn forget(&mut self) {
        self.walk = Walk::default();
    }

    /// What a free instance should get from `queue` at `now`.
    pub fn decide<T>(&mut self, queue: &Levels<T>, now: Instant) -> Verdict {
        self.advance(queue);
        let walk = &self.walk;
        let Some(oldest) = walk.oldest else {
            return Verdict::Empty;
        };
        if walk.rows >= self.limit || walk.end == Some(End::Rows) {
            return Verdict::Send(walk.count, Reason::Full);
        }
        let waited = now.saturating_duration_since(oldest) >= self.delay;
        match (waited, walk.preferred, walk.end) {
            (true, _, Some(End::Key)) => Verdict::Send(walk.count, Reason::Full),
            (true, _, _) if self.delay.is_zero() => Verdict::Send(walk.count, Reason::Idle),
            (true, _, _) => Verdict::Send(walk.count, Reason::Delay),
            (false, Some(count), _) => Verdict::Send(count, Reason::Preferred),
            (false, None, Some(_)) => Verdict::Send(walk.count, Reason::Full),
            (false, None, None) if walk.rows >= self.largest => {
                Verdict::Send(walk.count, Reason::Preferred)
            }
            (false, None, None) => {
                let delay_ends = oldest.checked_add(self.delay).unwrap_or(now);
                Verdict::Wait(
                    queue
                        .next_deadline()
                        .map_or(delay_ends, |at| at.min(delay_ends)),
                )
            }
        }
    }

    /// Looks at what came since the last call.
    fn advance<T>(&mut self, queue: &Levels<T>) {
        let walk = &mut self.walk;
        while walk.end.is_none()
            && walk.rows < self.limit
            && let Some(ticket) = queue.get(walk.count)
        {
            let rows = walk.rows.saturating_add(ticket.rows.max(1));
            if rows > self.limit {
                walk.end = Some(End::Rows);
            } else if queue.get(0).is_some_and(|first| first.key != ticket.key) {
                walk.end = Some(End::Key);
            } else {
                walk.count += 1;
                walk.rows = rows;
                walk.oldest = Some(
                    walk.oldest
                        .map_or(ticket.arrived, |at| at.min(ticket.arrived)),
                );
                if self.preferred.contains(&rows) {
                    walk.preferred = Some(walk.count);
                }
            }
        }
    }
}
