// SPDX-License-Identifier: Apache-2.0
//! The lanes between I/O threads and model instances, where hand-overs happen per batch.
//!
//! Each I/O thread has one lane. Forward: requests that one poll of the sockets brought are kept in the
//! thread's outbox and go to their queues together, when the thread is about to park ([`flush`]), so that
//! an instance is woken once and sees them all. Back: an instance puts all replies of a batch that belong
//! to this thread into the lane's inbox and wakes the thread once; [`deliver`] then completes the waiting
//! requests locally. One wake-up per request instead of per batch would double the cost of a request
//! (measured, see `ARCHITECTURE.md`).
//!
//! A waiting request is a numbered slot. A slot's generation changes when its waiter leaves, so that a
//! reply that comes too late finds nobody, and an instance can see that a caller is gone without any
//! allocation per request.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use atomic_waker::AtomicWaker;
use nerite_logic::Error;
use nerite_logic::check::Admission;
use nerite_logic::message::{InferRequest, InferResponse};
use nerite_logic::schedulers::Ticket;
use parking_lot::Mutex;

use crate::ensemble::counting::Timings;
use crate::responses::Responder;
use crate::trace::{Point, Trace};
use crate::version::Version;

/// Requests that one I/O thread may have in flight; one more is refused.
const SLOTS: usize = 16_384;
/// An outbox of this length is flushed without waiting for the thread to park.
const OUTBOX: usize = 256;

/// Where the reply to a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    lane: u16,
    slot: u32,
    generation: u32,
}

/// A request on its way through a queue.
#[derive(Debug)]
pub struct Pending {
    /// The request itself, checked.
    pub request: InferRequest,
    /// Rows it adds to a batch.
    pub rows: u32,
    /// When its last byte had come.
    pub received: Instant,
    /// Who waits for it.
    pub reply_to: ReplyTo,
    /// Its trace, if it is sampled.
    pub trace: Option<Arc<Trace>>,
    /// Where the answers of a decoupled model go instead.
    pub responder: Option<Arc<Responder>>,
    /// What it adds to, if it is the step of an ensemble.
    pub timings: Option<Arc<Timings>>,
}

/// What few requests bring.
#[derive(Debug, Default)]
pub struct Aside {
    /// Its trace, if it is sampled.
    pub trace: Option<Arc<Trace>>,
    /// Where the answers of a decoupled model go.
    pub responder: Option<Arc<Responder>>,
    /// What it adds to, if it is the step of an ensemble.
    pub timings: Option<Arc<Timings>>,
}

impl Pending {
    /// Whether it only fills a row of a batch of sequences.
    #[must_use]
    pub const fn is_filler(&self) -> bool {
        self.reply_to.slot == ReplyTo::NOBODY.slot
    }
}

/// What a waiting request gets.
pub type Outcome = Result<InferResponse, Error>;

/// The reply to a request, on its way back.
#[derive(Debug)]
pub struct Done {
    /// Who waits for it.
    pub reply_to: ReplyTo,
    /// What came out.
    pub outcome: Outcome,
}

/// The part of a lane that other threads touch.
#[derive(Debug)]
struct Lane {
    /// Replies that wait for [`deliver`]. Held for a push or a swap only.
    inbox: Mutex<Vec<Done>>,
    /// The task of [`deliver`].
    waker: AtomicWaker,
    /// The current generation of each slot; written by the lane's own thread alone.
    generations: Box<[AtomicU32]>,
}

/// All lanes of an engine.
#[derive(Debug)]
pub struct Lanes {
    lanes: Box<[Lane]>,
    /// Times an instance thread was woken for new requests.
    pub wakeups_forward: AtomicU64,
    /// Times an I/O thread was woken for replies.
    pub wakeups_back: AtomicU64,
    /// Requests accepted and not yet answered.
    pub in_flight: AtomicU64,
}

impl ReplyTo {
    /// Nobody: no lane has such a slot.
    pub const NOBODY: Self = Self {
        lane: 0,
        slot: u32::MAX,
        generation: 0,
    };
}

impl Lanes {
    /// `count` lanes, one for each I/O thread.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let lane = || Lane {
            inbox: Mutex::new(Vec::new()),
            waker: AtomicWaker::new(),
            generations: (0..SLOTS).map(|_| AtomicU32::new(0)).collect(),
        };
        Self {
            lanes: (0..count).map(|_| lane()).collect(),
            wakeups_forward: AtomicU64::new(0),
            wakeups_back: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
        }
    }

    /// Whether somebody still waits for the reply.
    #[must_use]
    pub fn is_awaited(&self, to: ReplyTo) -> bool {
        self.lanes
            .get(usize::from(to.lane))
            .and_then(|lane| lane.generations.get(to.slot as usize))
            .is_some_and(|generation| generation.load(Ordering::Relaxed) == to.generation)
    }

    /// Hands replies to the threads that own their connections, waking each such thread once.
    pub fn send(&self, replies: &mut Vec<Done>) {
        if let [lane] = &*self.lanes {
            self.send_to(lane, |inbox| inbox.append(replies));
            return;
        }
        for (index, lane) in self.lanes.iter().enumerate() {
            if replies
                .iter()
                .any(|done| usize::from(done.reply_to.lane) == index)
            {
                self.send_to(lane, |inbox| {
                    inbox.extend(
                        replies.extract_if(.., |done| usize::from(done.reply_to.lane) == index),
                    );
                });
            }
        }
    }

    fn send_to(&self, lane: &Lane, fill: impl FnOnce(&mut Vec<Done>)) {
        let was_empty = {
            let mut inbox = lane.inbox.lock();
            let was_empty = inbox.is_empty();
            fill(&mut inbox);
            was_empty && !inbox.is_empty()
        };
        // A non-empty inbox has its wake-up under way already.
        if was_empty {
            self.wakeups_back.fetch_add(1, Ordering::Relaxed);
            lane.waker.wake();
        }
    }
}

/// A slot of the thread's own table.
#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    waker: Option<Waker>,
    outcome: Option<Outcome>,
}

/// The part of a lane that only its own thread touches.
#[derive(Debug)]
struct Local {
    index: u16,
    lanes: Arc<Lanes>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    outbox: Vec<(Arc<Version>, Ticket<Box<Pending>>)>,
    sending: Vec<(Arc<Version>, Ticket<Box<Pending>>)>,
}

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

/// Makes the calling thread the I/O thread of lane `index`.
pub fn enter(index: usize, lanes: Arc<Lanes>) {
    let local = Local {
        index: u16::try_from(index).unwrap_or(u16::MAX),
        lanes,
        slots: Vec::new(),
        free: Vec::new(),
        outbox: Vec::with_capacity(OUTBOX),
        sending: Vec::with_capacity(OUTBOX),
    };
    LOCAL.with_borrow_mut(|slot| *slot = Some(local));
}

/// Puts a checked request into the outbox and returns the future of its outcome.
///
/// # Errors
/// If this thread has too many requests in flight, or is no I/O thread.
pub fn submit(
    version: &Arc<Version>,
    request: InferRequest,
    admission: Admission,
    received: Instant,
    aside: Aside,
) -> Result<Reply, Error> {
    let Admission { rows, key } = admission;
    if let Some(trace) = &aside.trace {
        trace.mark(Point::QueueStart);
    }
    let (reply, full) = LOCAL.with_borrow_mut(|local| {
        let local = local
            .as_mut()
            .ok_or_else(|| Error::internal("not an I/O thread"))?;
        let reply_to = local.claim()?;
        local.lanes.in_flight.fetch_add(1, Ordering::Relaxed);
        let timeout_us = request.control.timeout_us;
        let timeout = (timeout_us > 0).then(|| std::time::Duration::from_micros(timeout_us));
        let priority = u32::try_from(request.control.priority).unwrap_or(u32::MAX);
        let payload = Box::new(Pending {
            request,
            rows,
            received,
            reply_to,
            trace: aside.trace,
            responder: aside.responder,
            timings: aside.timings,
        });
        let ticket = Ticket {
            rows,
            key,
            arrived: received,
            priority,
            timeout,
            payload,
        };
        local.outbox.push((Arc::clone(version), ticket));
        Ok::<_, Error>((Reply { to: reply_to }, local.outbox.len() >= OUTBOX))
    })?;
    if full {
        flush();
    }
    Ok(reply)
}

/// Hands everything in the outbox to the queues; called when the thread is about to park.
pub fn flush() {
    let Some(mut sending) = LOCAL.with_borrow_mut(|local| {
        let local = local.as_mut().filter(|local| !local.outbox.is_empty())?;
        let spare = mem::take(&mut local.sending);
        Some(mem::replace(&mut local.outbox, spare))
    }) else {
        return;
    };
    // The borrow is over: a queue may refuse a request and send its reply to this very lane.
    let mut rest = sending.drain(..).peekable();
    while let Some((version, first)) = rest.next() {
        let more = std::iter::from_fn(|| {
            rest.next_if(|(next, _)| Arc::ptr_eq(next, &version))
                .map(|(_, ticket)| ticket)
        });
        version.push(std::iter::once(first).chain(more));
    }
    drop(rest);
    LOCAL.with_borrow_mut(|local| {
        if let Some(local) = local {
            local.sending = sending;
        }
    });
}

/// Completes waiting requests as their replies come in; the one such task of an I/O thread.
pub async fn deliver(index: usize, lanes: Arc<Lanes>) {
    let Some(lane) = lanes.lanes.get(index) else {
        return;
    };
    let mut replies: Vec<Done> = Vec::new();
    loop {
        poll_fn(|context| {
            lane.waker.register(context.waker());
            mem::swap(&mut *lane.inbox.lock(), &mut replies);
            if replies.is_empty() {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        LOCAL.with_borrow_mut(|local| {
            if let Some(local) = local {
                replies.drain(..).for_each(|done| local.complete(done));
            }
        });
    }
}

impl Local {
    fn claim(&mut self) -> Result<ReplyTo, Error> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < SLOTS => {
                self.slots.push(Slot::default());
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
            None => {
                return Err(Error::unavailable(format!(
                    "server has {SLOTS} requests in flight on one I/O thread, try again later"
                )));
            }
        };
        let generation = self
            .slots
            .get(slot as usize)
            .map_or(0, |slot| slot.generation);
        Ok(ReplyTo {
            lane: self.index,
            slot,
            generation,
        })
    }

    fn complete(&mut self, done: Done) {
        let Some(slot) = self.slots.get_mut(done.reply_to.slot as usize) else {
            return;
        };
        if slot.generation == done.reply_to.generation {
            slot.outcome = Some(done.outcome);
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }

    /// Frees a slot and makes every later reply to it find nobody.
    fn release(&mut self, to: ReplyTo) {
        let Some(slot) = self.slots.get_mut(to.slot as usize) else {
            return;
        };
        slot.generation = slot.generation.wrapping_add(1);
        slot.waker = None;
        slot.outcome = None;
        if let Some(generation) = self
            .lanes
            .lanes
            .get(usize::from(self.index))
            .and_then(|lane| lane.generations.get(to.slot as usize))
        {
            generation.store(slot.generation, Ordering::Relaxed);
        }
        self.free.push(to.slot);
        self.lanes.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The future of a request's outcome. Dropping it tells the queue that nobody waits any more.
#[derive(Debug)]
pub struct Reply {
    to: ReplyTo,
}

impl Future for Reply {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        LOCAL.with_borrow_mut(|local| {
            let slot = local
                .as_mut()
                .and_then(|local| local.slots.get_mut(self.to.slot as usize));
            let Some(slot) = slot else {
                return Poll::Ready(Err(Error::internal("not an I/O thread")));
            };
            if let Some(outcome) = slot.outcome.take() {
                return Poll::Ready(outcome);
            }
            match &mut slot.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            Poll::Pending
        })
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // At the end of a thread its table may be gone already; then there is nothing to free.
        let _ = LOCAL.try_with(|local| {
            if let Ok(mut local) = local.try_borrow_mut()
                && let Some(local) = local.as_mut()
            {
                local.release(self.to);
            }
        });
    }
}
