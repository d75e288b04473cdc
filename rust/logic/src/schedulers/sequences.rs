// SPDX-License-Identifier: Apache-2.0
//! The sequence batcher: every request of a sequence goes to the same instance, in order, one at a time
//! (`spec/triton.md` 5.4).
//!
//! An instance has slots, and a sequence holds one from its START until its END leaves, until it was idle
//! for too long, or until its caller is gone. Sequences without a slot wait in the backlog, first come first
//! served. Within an instance *direct* gives each sequence its own row of the batch and leaves rows empty,
//! *oldest* batches the oldest waiting requests of different sequences.
//!
//! An instance runs one batch at a time, so a slot is free as soon as its END was given out: whatever gets
//! the slot next runs after it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use super::{Next, Reason, Refused, Ticket, cancelled, earlier};
use crate::error::Error;
use crate::message::CorrelationId;
use crate::spec::{SequenceBatching, SequenceStrategy};

/// A request that may belong to a sequence.
pub trait Member {
    /// Which sequence it belongs to, and where in it it stands.
    fn step(&self) -> Step<'_>;
}

/// The place of a request in its sequence.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The sequence.
    pub id: &'a CorrelationId,
    /// Its first request.
    pub start: bool,
    /// Its last request.
    pub end: bool,
}

/// The sequences of one model version, and the requests of theirs that wait.
#[derive(Debug)]
pub struct Sequences<T> {
    settings: SequenceBatching,
    model: Box<str>,
    /// Most rows in one execution.
    limit: usize,
    instances: Vec<Instance<T>>,
    /// Slots without a sequence, by slot and instance: sequences spread over the instances.
    free: BTreeSet<(usize, usize)>,
    /// Sequences without a slot, in order of arrival.
    backlog: BTreeMap<u64, Sequence<T>>,
    /// Where a further request of a sequence goes; one whose END is here already is in it no more.
    homes: HashMap<CorrelationId, Home>,
    /// The number of the next request: order of arrival.
    number: u64,
    waiting: usize,
    /// Never later than the first time at which a sequence ends by itself.
    look_at: Option<Instant>,
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Slot { instance: usize, slot: usize },
    Backlog(u64),
}

#[derive(Debug)]
struct Instance<T> {
    slots: Vec<Option<Sequence<T>>>,
    /// The slots whose sequences have requests, by the number of the first.
    ready: BTreeMap<u64, usize>,
}

#[derive(Debug)]
struct Sequence<T> {
    id: CorrelationId,
    queue: VecDeque<(u64, Ticket<T>)>,
    /// The END is in the queue.
    ended: bool,
    /// When a request of it last came or left.
    touched: Instant,
}

impl<T: Member> Sequences<T> {
    /// No sequence yet, for so many instances of `model`.
    #[must_use]
    pub fn new(settings: &SequenceBatching, max_batch_size: u32, model: &str) -> Self {
        let limit = max_batch_size.max(1) as usize;
        let slots = match &settings.strategy {
            SequenceStrategy::Oldest(oldest) if oldest.max_candidates > 0 => oldest.max_candidates,
            _ => limit,
        };
        let count = settings.instances.max(1);
        let instance = || Instance {
            slots: (0..slots).map(|_| None).collect(),
            ready: BTreeMap::new(),
        };
        Self {
            settings: settings.clone(),
            model: model.into(),
            limit,
            instances: (0..count).map(|_| instance()).collect(),
            free: (0..slots)
                .flat_map(|slot| (0..count).map(move |instance| (slot, instance)))
                .collect(),
            backlog: BTreeMap::new(),
            homes: HashMap::new(),
            number: 0,
            waiting: 0,
            look_at: None,
            closed: false,
        }
    }

    /// Accepts a request, or gives it back. A START for a sequence that is under way begins it anew, in the
    /// same slot, behind what waits of it.
    ///
    /// # Errors
    /// INVALID_ARG if the request belongs to no sequence that is under way and does not start one, or has
    /// more rows than one.
    // The ticket must come back whole, and refusal is rare.
    #[allow(clippy::result_large_err)]
    pub fn push(&mut self, ticket: Ticket<T>, now: Instant) -> Result<(), Refused<T>> {
        if let Err(error) = self.admit(&ticket) {
            return Err(Refused { ticket, error });
        }
        let number = self.number;
        self.number += 1;
        self.waiting += 1;
        let step = ticket.payload.step();
        let (id, ends) = (step.id.clone(), step.end);
        let home = match self.homes.entry(id.clone()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let sequence = Sequence::new(id.clone(), now);
                let home = match self.free.pop_first() {
                    Some((slot, instance)) => {
                        self.instances[instance].slots[slot] = Some(sequence);
                        Home::Slot { instance, slot }
                    }
                    None => {
                        self.backlog.insert(number, sequence);
                        Home::Backlog(number)
                    }
                };
                *new.insert(home)
            }
        };
        if ends {
            self.homes.remove(&id);
        }
        let deadline = match home {
            Home::Slot { instance, slot } => {
                self.instances[instance].append(slot, number, ticket, ends, now);
                now.checked_add(self.settings.max_idle)
            }
            Home::Backlog(place) => {
                let deadline = deadline(&ticket);
                if let Some(sequence) = self.backlog.get_mut(&place) {
                    sequence.append(number, ticket, ends, now);
                }
                deadline
            }
        };
        self.look_by(deadline);
        Ok(())
    }

    fn admit(&self, ticket: &Ticket<T>) -> Result<(), Error> {
        let (step, model) = (ticket.payload.step(), &self.model);
        if *step.id == CorrelationId::None {
            return Err(Error::invalid(format!(
                "inference request to model '{model}' must specify a non-zero or non-empty correlation ID"
            )));
        }
        if ticket.rows > 1 {
            return Err(Error::invalid(format!(
                "inference request to model '{model}' must specify batch-size 1 due to requirements of \
                 sequence batcher"
            )));
        }
        if !step.start && !self.homes.contains_key(step.id) {
            return Err(Error::invalid(format!(
                "inference request for sequence {} to model '{model}' must specify the START flag on the \
                 first request of the sequence",
                step.id
            )));
        }
        let mut controls = self.settings.controls.iter();
        controls.try_for_each(|control| control.admits(step.id, model))
    }

    /// Decides what the free instance `instance` does at `now`. Appends the batch to `into`; *direct* also
    /// tells for each row of the batch whether a request is in it, in `rows`. Requests of sequences that end
    /// otherwise go to `refused`.
    pub fn next(
        &mut self,
        instance: usize,
        now: Instant,
        into: &mut Vec<Ticket<T>>,
        rows: &mut Vec<bool>,
        refused: &mut Vec<Refused<T>>,
        alive: impl Fn(&T) -> bool,
    ) -> Next {
        self.expire(now, refused);
        loop {
            let Some(here) = self.instances.get(instance) else {
                return Next::Empty;
            };
            let (count, reason) = match self.decide(here, now) {
                Ok(verdict) => verdict,
                Err(next) => return self.no_later(next),
            };
            let chosen: Vec<usize> = here.heads().take(count).map(|(slot, _)| slot).collect();
            let gone: Vec<usize> = chosen
                .iter()
                .copied()
                .filter(|slot| !here.head(*slot).is_some_and(|head| alive(&head.payload)))
                .collect();
            if gone.is_empty() {
                self.dispatch(instance, chosen, now, into, rows);
                return Next::Dispatch(reason);
            }
            for slot in gone {
                self.cancel(instance, slot, now, refused);
            }
        }
    }

    /// How many of the waiting sequences of an instance run now, or what it waits for.
    fn decide(&self, here: &Instance<T>, now: Instant) -> Result<(usize, Reason), Next> {
        let mut heads = here.heads().map(|(_, head)| head);
        let Some(first) = heads.next() else {
            return Err(Next::Empty);
        };
        let joined = heads.take_while(|head| head.key == first.key).count() + 1;
        let count = joined.min(self.limit);
        let full = count == self.limit || joined < here.ready.len();
        let (delay, enough) = match &self.settings.strategy {
            SequenceStrategy::Direct(direct) => {
                // A share of nothing is reached at once, so there is no delay without one.
                let share = count as f32 / here.slots.len() as f32;
                (
                    direct.max_delay,
                    (share >= direct.minimum_share).then_some(count),
                )
            }
            SequenceStrategy::Oldest(oldest) => {
                let reached = oldest.preferred_sizes.iter().map(|size| *size as usize);
                (
                    oldest.max_delay,
                    reached.filter(|size| *size <= count).max(),
                )
            }
        };
        let until = first.arrived.checked_add(delay).unwrap_or(now);
        match enough {
            _ if full => Ok((count, Reason::Full)),
            _ if delay.is_zero() => Ok((count, Reason::Idle)),
            _ if until <= now || self.closed => Ok((count, Reason::Delay)),
            Some(count) => Ok((count, Reason::Preferred)),
            None => Err(Next::WaitUntil(until)),
        }
    }

    /// The same, but not beyond the time at which a sequence ends by itself.
    fn no_later(&self, next: Next) -> Next {
        match (next, self.look_at) {
            (Next::WaitUntil(until), Some(at)) => Next::WaitUntil(until.min(at)),
            (next, _) => next,
        }
    }

    fn dispatch(
        &mut self,
        instance: usize,
        mut chosen: Vec<usize>,
        now: Instant,
        into: &mut Vec<Ticket<T>>,
        rows: &mut Vec<bool>,
    ) {
        if matches!(self.settings.strategy, SequenceStrategy::Direct(_)) {
            chosen.sort_unstable();
            let here = &self.instances[instance];
            let last = here.slots.iter().rposition(Option::is_some);
            rows.resize(last.map_or(0, |last| last + 1), false);
        }
        for slot in chosen {
            if let Some(row) = rows.get_mut(slot) {
                *row = true;
            }
            if let Some((ticket, ends)) = self.instances[instance].take(slot, now) {
                self.waiting -= 1;
                into.push(ticket);
                if ends {
                    self.release(instance, slot, now);
                }
            }
        }
        self.look_by(now.checked_add(self.settings.max_idle));
    }

    /// Ends what ends by itself at `now`: idle sequences, silently, and sequences of the backlog one of
    /// whose requests has waited for its timeout, whose requests are refused.
    pub fn expire(&mut self, now: Instant, refused: &mut Vec<Refused<T>>) {
        if self.look_at.is_none_or(|at| now < at) && !self.closed {
            return;
        }
        self.refuse_late(now, refused);
        let mut next: Option<Instant> = None;
        for instance in 0..self.instances.len() {
            for slot in 0..self.instances[instance].slots.len() {
                // What comes out of the backlog into the slot has requests.
                let ends_at = self.ends_at(instance, slot);
                if ends_at.is_some_and(|at| at <= now || self.closed) {
                    if let Some(idle) = &self.instances[instance].slots[slot] {
                        self.homes.remove(&idle.id);
                    }
                    self.release(instance, slot, now);
                } else {
                    next = earlier(next, ends_at);
                }
            }
        }
        let late = self.backlog.values().filter_map(Sequence::deadline).min();
        self.look_at = earlier(next, late);
    }

    /// When the sequence of a slot was idle for too long, if it is.
    fn ends_at(&self, instance: usize, slot: usize) -> Option<Instant> {
        let sequence = self.instances[instance].slots[slot].as_ref()?;
        match sequence.queue.is_empty() {
            true => sequence.touched.checked_add(self.settings.max_idle),
            false => None,
        }
    }

    fn refuse_late(&mut self, now: Instant, refused: &mut Vec<Refused<T>>) {
        let is_late = |sequence: &Sequence<T>| sequence.deadline().is_some_and(|at| at <= now);
        let late: Vec<u64> = (self.backlog.iter())
            .filter(|(_, sequence)| is_late(sequence))
            .map(|(place, _)| *place)
            .collect();
        for place in late {
            if let Some(sequence) = self.backlog.remove(&place) {
                self.forget(&sequence.id, Home::Backlog(place));
                let error =
                    || Error::unavailable("timeout of the corresponding sequence has been expired");
                self.refuse(sequence, error, refused);
            }
        }
    }

    /// Refuses what waits of sequences whose next request nobody waits for any more.
    pub fn sweep(
        &mut self,
        now: Instant,
        refused: &mut Vec<Refused<T>>,
        alive: impl Fn(&T) -> bool,
    ) {
        for instance in 0..self.instances.len() {
            let gone: Vec<usize> = (self.instances[instance].heads())
                .filter(|(_, head)| !alive(&head.payload))
                .map(|(slot, _)| slot)
                .collect();
            for slot in gone {
                self.cancel(instance, slot, now, refused);
            }
        }
    }

    fn cancel(
        &mut self,
        instance: usize,
        slot: usize,
        now: Instant,
        refused: &mut Vec<Refused<T>>,
    ) {
        let here = &mut self.instances[instance];
        let Some(sequence) = here.slots[slot].take() else {
            return;
        };
        if let Some((first, _)) = sequence.queue.front() {
            here.ready.remove(first);
        }
        self.forget(&sequence.id, Home::Slot { instance, slot });
        self.refuse(sequence, cancelled, refused);
        self.release(instance, slot, now);
    }

    fn refuse(
        &mut self,
        sequence: Sequence<T>,
        error: impl Fn() -> Error,
        refused: &mut Vec<Refused<T>>,
    ) {
        self.waiting -= sequence.queue.len();
        refused.extend(sequence.queue.into_iter().map(|(_, ticket)| Refused {
            ticket,
            error: error(),
        }));
    }

    /// Takes a sequence out of the directory, unless one of the same name has begun elsewhere since.
    fn forget(&mut self, id: &CorrelationId, home: Home) {
        if self.homes.get(id) == Some(&home) {
            self.homes.remove(id);
        }
    }

    /// Gives a slot to the first sequence of the backlog.
    fn release(&mut self, instance: usize, slot: usize, now: Instant) {
        let here = &mut self.instances[instance];
        here.slots[slot] = None;
        let Some((place, mut sequence)) = self.backlog.pop_first() else {
            self.free.insert((slot, instance));
            return;
        };
        sequence.touched = now;
        if let Some((first, _)) = sequence.queue.front() {
            here.ready.insert(*first, slot);
        }
        if let Some(home) = self.homes.get_mut(&sequence.id)
            && *home == Home::Backlog(place)
        {
            *home = Home::Slot { instance, slot };
        }
        here.slots[slot] = Some(sequence);
    }

    fn look_by(&mut self, at: Option<Instant>) {
        self.look_at = earlier(self.look_at, at);
    }

    /// Says that no request comes any more: sequences end once nothing of them waits.
    pub const fn close(&mut self) {
        self.closed = true;
    }

    /// A time not later than the first at which [`Self::expire`] has something to do.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.look_at
    }

    /// Requests that wait, for a slot or in one.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.waiting
    }

    /// Whether no request waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Sequences that hold a slot.
    #[must_use]
    pub fn active(&self) -> usize {
        let slots = self.instances.iter().map(|instance| instance.slots.len());
        slots.sum::<usize>() - self.free.len()
    }

    /// Takes out all that waits, in order of arrival, to be answered by the caller.
    pub fn drain(&mut self, into: &mut Vec<Ticket<T>>) {
        let slots = self.instances.iter_mut().flat_map(|instance| {
            instance.ready.clear();
            instance.slots.iter_mut().flatten()
        });
        let mut all: Vec<(u64, Ticket<T>)> = slots
            .chain(self.backlog.values_mut())
            .flat_map(|sequence| sequence.queue.drain(..))
            .collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        into.extend(all.into_iter().map(|(_, ticket)| ticket));
        self.waiting = 0;
    }
}

impl<T: Member> Instance<T> {
    /// The sequences that wait, the one whose request came first before all others.
    fn heads(&self) -> impl Iterator<Item = (usize, &Ticket<T>)> {
        let slots = self.ready.values().copied();
        slots.filter_map(|slot| Some((slot, self.head(slot)?)))
    }

    fn head(&self, slot: usize) -> Option<&Ticket<T>> {
        let sequence = self.slots.get(slot)?.as_ref()?;
        sequence.queue.front().map(|(_, ticket)| ticket)
    }

    fn append(&mut self, slot: usize, number: u64, ticket: Ticket<T>, ends: bool, now: Instant) {
        if let Some(sequence) = &mut self.slots[slot] {
            if sequence.queue.is_empty() {
                self.ready.insert(number, slot);
            }
            sequence.append(number, ticket, ends, now);
        }
    }

    /// The next request of a slot, and whether it is the last of its sequence.
    fn take(&mut self, slot: usize, now: Instant) -> Option<(Ticket<T>, bool)> {
        let sequence = self.slots[slot].as_mut()?;
        let (number, ticket) = sequence.queue.pop_front()?;
        sequence.touched = now;
        self.ready.remove(&number);
        match sequence.queue.front() {
            Some((next, _)) => {
                self.ready.insert(*next, slot);
                Some((ticket, false))
            }
            None => Some((ticket, sequence.ended)),
        }
    }
}

impl<T: Member> Sequence<T> {
    const fn new(id: CorrelationId, now: Instant) -> Self {
        Self {
            id,
            queue: VecDeque::new(),
            ended: false,
            touched: now,
        }
    }

    fn append(&mut self, number: u64, ticket: Ticket<T>, ends: bool, now: Instant) {
        self.queue.push_back((number, ticket));
        self.ended |= ends;
        self.touched = now;
    }

    /// When the first of its requests has waited for its timeout.
    fn deadline(&self) -> Option<Instant> {
        self.queue
            .iter()
            .filter_map(|(_, ticket)| deadline(ticket))
            .min()
    }
}

fn deadline<T>(ticket: &Ticket<T>) -> Option<Instant> {
    ticket.arrived.checked_add(ticket.timeout?)
}
