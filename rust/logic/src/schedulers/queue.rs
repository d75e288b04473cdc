// SPDX-License-Identifier: Apache-2.0
//! The requests of one level that wait, and how long they may (`spec/triton.md` 5.3).
//!
//! Deadlines are not sorted: requests may shorten their timeout, so the earliest can be anywhere. The
//! queue keeps a time that is never later than the earliest deadline and looks through all tickets only
//! when that time has come, which is at most once per timeout, not once per request.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Refused, Ticket, cancelled, earlier};
use crate::error::Error;
use crate::spec::{QueuePolicy, TimeoutAction};

/// Tickets in the order in which they will run.
#[derive(Debug)]
pub struct Queue<T> {
    policy: QueuePolicy,
    /// In order of arrival.
    ready: VecDeque<Ticket<T>>,
    /// Those that DELAY moved behind `ready`; they have no deadline any more.
    late: VecDeque<Ticket<T>>,
    /// Never later than the earliest deadline in `ready`; `None` if nothing there has one.
    earliest: Option<Instant>,
}

impl<T> Queue<T> {
    /// An empty queue under `policy`.
    #[must_use]
    pub const fn new(policy: QueuePolicy) -> Self {
        Self {
            policy,
            ready: VecDeque::new(),
            late: VecDeque::new(),
            earliest: None,
        }
    }

    /// Puts `ticket` behind all that are not late; one whose deadline is already past is found by the
    /// next [`Self::expire`].
    ///
    /// # Errors
    /// UNAVAILABLE if `max_queue_size` requests wait already.
    // The ticket must come back whole, and refusal is rare.
    #[allow(clippy::result_large_err)]
    pub fn push(&mut self, ticket: Ticket<T>) -> Result<(), Refused<T>> {
        if self
            .policy
            .max_queue_size
            .is_some_and(|most| self.len() >= most)
        {
            return Err(Refused {
                ticket,
                error: Error::unavailable("Exceeds maximum queue size"),
            });
        }
        self.earliest = earlier(self.earliest, deadline(&self.policy, &ticket));
        self.ready.push_back(ticket);
        Ok(())
    }

    /// The ticket at `index` of the running order.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Ticket<T>> {
        self.ready
            .get(index)
            .or_else(|| self.late.get(index.checked_sub(self.ready.len())?))
    }

    /// Takes the first `count` tickets, or nothing at all if one of their callers is gone.
    pub fn take(
        &mut self,
        count: usize,
        into: &mut Vec<Ticket<T>>,
        alive: &impl Fn(&T) -> bool,
    ) -> bool {
        if !self.are_alive(count, alive) {
            return false;
        }
        let ready = count.min(self.ready.len());
        let late = (count - ready).min(self.late.len());
        into.extend(self.ready.drain(..ready));
        into.extend(self.late.drain(..late));
        if self.ready.is_empty() {
            self.earliest = None;
        }
        true
    }

    /// Whether the callers of the first `count` tickets are still there.
    pub fn are_alive(&self, count: usize, alive: &impl Fn(&T) -> bool) -> bool {
        let first = self.ready.iter().chain(&self.late).take(count);
        first.into_iter().all(|ticket| alive(&ticket.payload))
    }

    /// Applies the timeout action to what is late at `now`; tells whether anything was.
    pub fn expire(&mut self, now: Instant, refused: &mut Vec<Refused<T>>) -> bool {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return false;
        }
        let (policy, late) = (self.policy, &mut self.late);
        let mut earliest = None;
        let found = divert(&mut self.ready, |ticket| match deadline(&policy, &ticket) {
            Some(deadline) if deadline <= now => {
                match policy.timeout_action {
                    TimeoutAction::Delay => late.push_back(ticket),
                    TimeoutAction::Reject => refused.push(Refused {
                        ticket,
                        error: Error::unavailable("Request timeout expired"),
                    }),
                }
                None
            }
            deadline => {
                earliest = earlier(earliest, deadline);
                Some(ticket)
            }
        });
        self.earliest = earliest;
        found
    }

    /// Refuses every ticket whose caller is gone.
    pub fn sweep(&mut self, refused: &mut Vec<Refused<T>>, alive: &impl Fn(&T) -> bool) {
        for line in [&mut self.ready, &mut self.late] {
            divert(line, |ticket| {
                if alive(&ticket.payload) {
                    return Some(ticket);
                }
                refused.push(Refused {
                    ticket,
                    error: cancelled(),
                });
                None
            });
        }
    }

    /// A time not later than the earliest deadline.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.earliest
    }

    /// Whether requests wait that DELAY put behind the others.
    #[must_use]
    pub fn has_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Requests that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ready.len() + self.late.len()
    }

    /// Whether no request waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.late.is_empty()
    }

    /// Takes out everything, in running order.
    pub fn drain(&mut self, into: &mut Vec<Ticket<T>>) {
        into.extend(self.ready.drain(..));
        into.extend(self.late.drain(..));
        self.earliest = None;
    }
}

/// When `ticket` becomes late. A request's own timeout counts only if it shortens a default there is;
/// see `allow_timeout_override` in `spec/triton.md` 5.3.
fn deadline<T>(policy: &QueuePolicy, ticket: &Ticket<T>) -> Option<Instant> {
    let default = policy.default_timeout?;
    let own = ticket
        .timeout
        .filter(|own| policy.allow_timeout_override && !own.is_zero());
    ticket
        .arrived
        .checked_add(own.map_or(default, |own| own.min(default)))
}

/// Keeps, in order, the tickets that `keep` gives back, without allocating; tells whether any is gone.
fn divert<T>(
    line: &mut VecDeque<Ticket<T>>,
    mut keep: impl FnMut(Ticket<T>) -> Option<Ticket<T>>,
) -> bool {
    let before = line.len();
    for _ in 0..before {
        if let Some(ticket) = line.pop_front().and_then(&mut keep) {
            line.push_back(ticket);
        }
    }
    line.len() != before
}
