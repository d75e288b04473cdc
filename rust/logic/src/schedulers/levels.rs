// SPDX-License-Identifier: Apache-2.0
//! What waits, by priority (`spec/triton.md` 5.3): one queue, or one for each level.
//!
//! Level 1 runs first, and nothing of a level runs before all of the levels above it, late ones included,
//! so that whoever chooses among the levels must keep the upper ones rare. Without levels there is the
//! first queue alone, and every function here is that queue's.

use std::collections::BTreeMap;
use std::time::Instant;

use super::queue::Queue;
use super::{Refused, Ticket};
use crate::spec::{Priorities, QueuePolicy};

/// Tickets in the order in which they will run.
#[derive(Debug)]
pub struct Levels<T> {
    /// The only queue, or that of level 1.
    first: Queue<T>,
    /// The queues below it in which something waits, by level.
    rest: BTreeMap<u32, Queue<T>>,
    priorities: Option<Priorities>,
    policy: QueuePolicy,
}

impl<T> Levels<T> {
    /// Nothing waits; levels without a policy of their own have `policy`.
    #[must_use]
    pub fn new(policy: QueuePolicy, priorities: Option<Priorities>) -> Self {
        let first = priorities.as_ref().map_or(policy, |p| p.policy(1, policy));
        Self {
            first: Queue::new(first),
            rest: BTreeMap::new(),
            priorities,
            policy,
        }
    }

    /// Puts `ticket` behind those of its level that are not late, and tells whether it came last of all.
    ///
    /// # Errors
    /// UNAVAILABLE if as many of its level wait as may.
    // The ticket must come back whole, and refusal is rare.
    #[allow(clippy::result_large_err)]
    pub fn push(&mut self, ticket: Ticket<T>) -> Result<bool, Refused<T>> {
        let level = self
            .priorities
            .as_ref()
            .map_or(1, |p| p.level(ticket.priority));
        if level == 1 {
            let last = !self.first.has_late() && self.rest.is_empty();
            return self.first.push(ticket).map(|()| last);
        }
        let policy = || {
            let own = self.priorities.as_ref();
            own.map_or(self.policy, |p| p.policy(level, self.policy))
        };
        let queue = self
            .rest
            .entry(level)
            .or_insert_with(|| Queue::new(policy()));
        queue.push(ticket)?;
        let last = !queue.has_late();
        Ok(last && self.rest.last_key_value().map(|(last, _)| *last) == Some(level))
    }

    /// The ticket at `index` of the running order.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Ticket<T>> {
        self.first.get(index).or_else(|| {
            let mut index = index.checked_sub(self.first.len())?;
            for queue in self.rest.values() {
                match index.checked_sub(queue.len()) {
                    Some(further) => index = further,
                    None => return queue.get(index),
                }
            }
            None
        })
    }

    /// Takes the first `count` tickets, or nothing at all if one of their callers is gone.
    pub fn take(
        &mut self,
        count: usize,
        into: &mut Vec<Ticket<T>>,
        alive: &impl Fn(&T) -> bool,
    ) -> bool {
        if self.rest.is_empty() {
            return self.first.take(count, into, alive);
        }
        let before = into.len();
        let mut left = count;
        if !self.queues().all(|queue| {
            let mine = left.min(queue.len());
            left -= mine;
            queue.are_alive(mine, alive)
        }) {
            return false;
        }
        for queue in self.queues_mut() {
            let taken = into.len() - before;
            queue.take(count - taken, into, alive);
        }
        self.rest.retain(|_, queue| !queue.is_empty());
        true
    }

    /// Applies the timeout actions to what is late at `now`; tells whether anything was.
    pub fn expire(&mut self, now: Instant, refused: &mut Vec<Refused<T>>) -> bool {
        let mut found = self.first.expire(now, refused);
        for queue in self.rest.values_mut() {
            found |= queue.expire(now, refused);
        }
        if found {
            self.rest.retain(|_, queue| !queue.is_empty());
        }
        found
    }

    /// Refuses every ticket whose caller is gone.
    pub fn sweep(&mut self, refused: &mut Vec<Refused<T>>, alive: &impl Fn(&T) -> bool) {
        self.queues_mut()
            .for_each(|queue| queue.sweep(refused, alive));
        self.rest.retain(|_, queue| !queue.is_empty());
    }

    /// A time not later than the earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.rest.is_empty() {
            return self.first.next_deadline();
        }
        self.queues().filter_map(Queue::next_deadline).min()
    }

    /// Requests that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.first.len() + self.rest.values().map(Queue::len).sum::<usize>()
    }

    /// Whether no request waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // A queue of `rest` is there as long as something waits in it.
        self.first.is_empty() && self.rest.is_empty()
    }

    /// Takes out everything, in running order.
    pub fn drain(&mut self, into: &mut Vec<Ticket<T>>) {
        self.queues_mut().for_each(|queue| queue.drain(into));
        self.rest.clear();
    }

    fn queues(&self) -> impl Iterator<Item = &Queue<T>> {
        std::iter::once(&self.first).chain(self.rest.values())
    }

    fn queues_mut(&mut self) -> impl Iterator<Item = &mut Queue<T>> {
        std::iter::once(&mut self.first).chain(self.rest.values_mut())
    }
}
