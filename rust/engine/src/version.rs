// SPDX-License-Identifier: Apache-2.0
//! One version of one model: what it declares, its queue, and the instances that wait on it.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use bytestring::ByteString;
use nerite_logic::Error;
use nerite_logic::schedulers::order::Reorder;
use nerite_logic::schedulers::{Next, Refused, Ticket};
use nerite_logic::spec::ModelSpec;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::buffers::Pool;
use crate::cache::Cached;
use crate::ensemble::Ensemble;
use crate::instance::Work;
use crate::lane::{Done, Lanes, Pending};
use crate::line::{Line, complete};
use crate::rate_limit::{Places, Turn};
use crate::statistics::MemoryUsage;
use crate::statistics::{Failure, Statistics};
use crate::table::Table;
use crate::timekeeper::Timekeeper;

/// Output name to class labels, for the classification extension.
pub type Labels = HashMap<String, Vec<String>>;

const STOPPING: &str =
    "Server is stopping, scheduler for model has stopped accepting new inference requests";

/// A loaded version. Clients reach it once the table names it; it keeps serving what it accepted until
/// the last reply, however often the table changes.
#[derive(Debug)]
pub struct Version {
    /// What it declares.
    pub spec: ModelSpec,
    /// Its number.
    pub number: u64,
    /// Its number as answers print it.
    pub number_text: ByteString,
    /// The repository that it comes from, where models have namespaces.
    pub namespace: OnceLock<String>,
    /// Its place in the response cache, if it has one.
    pub cached: OnceLock<Cached>,
    /// What its backend says that it holds.
    pub memory: OnceLock<Vec<MemoryUsage>>,
    /// The completed configuration, as the config endpoint answers.
    pub config_json: Bytes,
    /// The same as `inference.ModelConfig`.
    pub config_proto: Bytes,
    /// Class labels by output.
    pub labels: Labels,
    /// Everything counted about it.
    pub statistics: Statistics,
    /// Batch buffers, one pool for each declared input.
    pub pools: Vec<Arc<Pool>>,
    /// The resources of its instances, if such are looked at.
    pub places: OnceLock<Arc<Places>>,
    /// Where replies go.
    pub lanes: Arc<Lanes>,
    /// What it has instead of instances, if it is an ensemble.
    pub ensemble: Option<Ensemble>,
    timekeeper: Arc<Timekeeper>,
    entered: AtomicUsize,
    this: Weak<Self>,
    /// Held by I/O threads for a push, by instances to take a batch; never while anything executes.
    queue: Mutex<Queue>,
    /// Idle instances wait here.
    work: Condvar,
}

/// What a version needs of its engine.
#[derive(Debug)]
pub struct Surroundings {
    /// Where replies go.
    pub lanes: Arc<Lanes>,
    /// Who keeps queue timeouts while all instances are busy.
    pub timekeeper: Arc<Timekeeper>,
    /// Where ensembles find their models.
    pub table: Arc<ArcSwap<Table>>,
}

#[derive(Debug)]
struct Queue {
    scheduler: Line,
    /// Instances that wait on `work`.
    idle: usize,
    /// No more requests; instances leave when it is empty.
    closed: bool,
    /// When the timekeeper will look, if it will.
    armed: Option<Instant>,
    /// Holds back replies that overtook others, if the model asks for their order.
    order: Option<Reorder<Vec<Done>>>,
}

impl Version {
    /// Who it is, for a trace.
    pub fn traced(&self) -> (&ModelSpec, u64) {
        (&self.spec, self.number)
    }

    /// A version that accepts requests at once.
    #[must_use]
    pub fn new(
        spec: ModelSpec,
        number: u64,
        config: (Bytes, Bytes),
        labels: Labels,
        statistics: Statistics,
        surroundings: Surroundings,
    ) -> Arc<Self> {
        let Surroundings {
            lanes,
            timekeeper,
            table,
        } = surroundings;
        let ordered = spec.preserves_order();
        Arc::new_cyclic(|this| Self {
            queue: Mutex::new(Queue {
                scheduler: Line::of(&spec),
                idle: 0,
                closed: false,
                armed: None,
                order: ordered.then(Reorder::default),
            }),
            work: Condvar::new(),
            ensemble: spec
                .ensemble
                .as_ref()
                .map(|ensemble| Ensemble::new(ensemble, table)),
            pools: spec.batch_inputs().map(|_| Arc::default()).collect(),
            number,
            number_text: number.to_string().into(),
            namespace: OnceLock::new(),
            places: OnceLock::new(),
            cached: OnceLock::new(),
            memory: OnceLock::new(),
            config_json: config.0,
            config_proto: config.1,
            labels,
            statistics,
            lanes,
            timekeeper,
            entered: AtomicUsize::new(0),
            this: this.clone(),
            spec,
        })
    }

    /// The number of an instance that begins to take batches.
    pub fn enter(&self) -> usize {
        self.entered
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    /// Queues requests, in order, and wakes one idle instance for all of them.
    pub fn push(&self, tickets: impl Iterator<Item = Ticket<Box<Pending>>>) {
        let now = Instant::now();
        let mut refused = Vec::new();
        {
            let mut queue = self.queue.lock();
            for ticket in tickets {
                if queue.closed {
                    refused.push(Refused {
                        ticket,
                        error: Error::unavailable(STOPPING),
                    });
                } else if let Err(why) = queue.scheduler.push(ticket, now) {
                    refused.push(why);
                }
            }
            if !queue.scheduler.is_empty() {
                self.wake_one(&queue);
                self.arm(&mut queue);
            }
        }
        self.refuse(refused, now);
    }

    /// Waits for the next batch and takes it; `false` when the version is closed and empty.
    pub fn next_batch(&self, work: &mut Work) -> bool {
        let mut refused = Vec::new();
        let mut queue = self.queue.lock();
        loop {
            if let Some(turn) = work.turn.as_mut().filter(|turn| turn.is_due())
                && !queue.scheduler.is_empty()
            {
                // Another instance may need less, or nothing; of sequences each knows already.
                if !queue.scheduler.is_bound() {
                    self.wake_one(&queue);
                }
                MutexGuard::unlocked(&mut queue, || turn.wait());
            }
            let now = Instant::now();
            #[allow(clippy::borrowed_box)] // The payload of a ticket is a box.
            let alive = |pending: &Box<Pending>| self.lanes.is_awaited(pending.reply_to);
            let next = queue.scheduler.next(
                work.instance,
                now,
                &mut work.tickets,
                &mut work.rows_filled,
                &mut refused,
                alive,
            );
            if !refused.is_empty() {
                MutexGuard::unlocked(&mut queue, || {
                    self.refuse(std::mem::take(&mut refused), now)
                });
            }
            match next {
                Next::Dispatch(reason) => {
                    work.begin(reason, now);
                    work.order = queue.order.as_mut().map(Reorder::enter);
                    if !queue.scheduler.is_empty() {
                        self.wake_one(&queue);
                        self.arm(&mut queue);
                    }
                    if queue.scheduler.is_bound() {
                        drop(queue);
                        complete(&self.spec, &mut work.tickets, &mut work.rows_filled);
                    }
                    return true;
                }
                Next::WaitUntil(at) => {
                    work.turn.as_mut().map(Turn::put_back);
                    queue.idle += 1;
                    self.work.wait_until(&mut queue, at);
                    queue.idle -= 1;
                }
                // What waits for a slot may yet come to this instance.
                Next::Empty if queue.closed && queue.scheduler.is_empty() => {
                    self.work.notify_all();
                    self.end_turns();
                    return false;
                }
                Next::Empty => {
                    work.turn.as_mut().map(Turn::put_back);
                    queue.idle += 1;
                    self.work.wait(&mut queue);
                    queue.idle -= 1;
                }
            }
        }
    }

    /// Sends the replies of a batch, in order of dispatch if the model asks for it.
    pub fn reply(&self, work: &mut Work) {
        match work.order.take() {
            None => self.lanes.send(&mut work.replies),
            Some(turn) => {
                let mut queue = self.queue.lock();
                let Some(order) = &mut queue.order else {
                    return;
                };
                let mut leaving = Vec::new();
                // A turn is taken at dispatch and finished here alone, so it is always waited for.
                let _ = order.finish(turn, std::mem::take(&mut work.replies), &mut leaving);
                // Sent under the lock: otherwise a later turn could overtake on its way out.
                leaving
                    .iter_mut()
                    .for_each(|replies| self.lanes.send(replies));
            }
        }
    }

    /// Refuses requests whose time is over; the timekeeper calls it.
    pub fn expire(&self, now: Instant) {
        let mut refused = Vec::new();
        {
            let mut queue = self.queue.lock();
            queue.armed = None;
            queue.scheduler.expire(now, &mut refused);
            if queue.scheduler.is_bound() && !queue.scheduler.is_empty() {
                self.wake_one(&queue);
            }
            self.arm(&mut queue);
        }
        self.refuse(refused, now);
    }

    /// Refuses new requests; instances leave once what was queued is answered.
    pub fn close(&self) {
        let mut refused = Vec::new();
        let empty = {
            let mut queue = self.queue.lock();
            queue.scheduler.close();
            queue.closed = true;
            // Nobody waits for these, so no instance should stay for the company that they hope for.
            queue.scheduler.sweep(&mut refused, |pending| {
                self.lanes.is_awaited(pending.reply_to)
            });
            queue.scheduler.is_empty()
        };
        if empty {
            self.end_turns();
        }
        self.work.notify_all();
        self.refuse(refused, Instant::now());
    }

    /// Has nobody wait for resources any more: there is nothing left to do with them.
    fn end_turns(&self) {
        if let Some(places) = self.places.get() {
            places.end();
        }
    }

    /// Waits until no table names the version and no request is on its way to or from it, so that closing
    /// it refuses nobody; `false` if the time ran out first. The caller's own reference is not counted.
    ///
    /// A request has the version from the moment in which it found it in the table, long before it is
    /// queued, until its reply is encoded. Counting the references costs requests nothing; looking again
    /// and again costs a thread that has nothing else to do.
    ///
    /// Sequences end here: no further request of theirs can come, and others may wait for their slots.
    pub fn wait_unreachable(this: &Arc<Self>, limit: Duration) -> bool {
        this.queue.lock().scheduler.close();
        this.work.notify_all();
        let end = Instant::now() + limit;
        let mut pause = Duration::from_micros(50);
        while Arc::strong_count(this) > 1 {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
        true
    }

    /// Refuses what is queued too, for an engine that must end now.
    pub fn abandon(&self) {
        let mut tickets = Vec::new();
        {
            let mut queue = self.queue.lock();
            queue.closed = true;
            queue.scheduler.drain(&mut tickets);
        }
        self.end_turns();
        self.work.notify_all();
        let error = || Error::unavailable(STOPPING);
        let refused = tickets.into_iter().map(|ticket| Refused {
            ticket,
            error: error(),
        });
        self.refuse(refused.collect(), Instant::now());
    }

    /// Requests in the queue.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.queue.lock().scheduler.len()
    }

    fn wake_one(&self, queue: &Queue) {
        if queue.idle == 0 {
            return;
        }
        // Only its own instance can run a sequence.
        let woken = match queue.scheduler.is_bound() {
            true => self.work.notify_all() > 0,
            false => self.work.notify_one(),
        };
        if woken {
            self.lanes
                .wakeups_forward
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn arm(&self, queue: &mut Queue) {
        let Some(at) = queue.scheduler.next_deadline() else {
            return;
        };
        if queue.armed.is_none_or(|armed| at < armed) {
            queue.armed = Some(at);
            self.timekeeper.arm(at, self.this.clone());
        }
    }

    fn refuse(&self, refused: Vec<Refused<Box<Pending>>>, now: Instant) {
        if refused.is_empty() {
            return;
        }
        let mut replies = Vec::with_capacity(refused.len());
        for Refused { ticket, error } in refused {
            let waited = now.saturating_duration_since(ticket.arrived);
            self.statistics.failed(Failure::of_refusal(&error), waited);
            let error = name_request(error, &ticket.payload.request.id);
            match &ticket.payload.responder {
                Some(responder) => responder.refuse(error),
                None => replies.push(Done {
                    reply_to: ticket.payload.reply_to,
                    outcome: Err(error),
                }),
            }
        }
        self.lanes.send(&mut replies);
    }
}

/// Triton puts the request's id before the queue-full text (and before no other of the queue's texts).
fn name_request(mut error: Error, id: &str) -> Error {
    if error.message == "Exceeds maximum queue size" {
        let id = if id.is_empty() { "<id_unknown>" } else { id };
        error.message = format!("[request id: {id}] {}", error.message).into();
    }
    error
}
