// SPDX-License-Identifier: Apache-2.0
//! The answers to one request of a decoupled model: any number of them, from any thread, and an end.
//!
//! Such a request has its slot in the lane like any other, which tells queue and model whether somebody
//! waits. Its answers do not go that way: a [`Responder`] travels with the request, and puts them into a
//! bounded queue that the connection's task empties as fast as the client reads ([`Responses`]). Requests
//! that are answered once know nothing of all this.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use nerite_logic::Error;
use nerite_logic::message::InferResponse;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::ensemble::run::Run;
use crate::lane::{Outcome, Reply};
use crate::response_statistics::Kind;
use crate::statistics::Failure;
use crate::trace::{Point, Traced};
use crate::version::Version;

/// Answers of one request that may wait for its client; one more makes the model wait.
const MOST_ANSWERS: usize = 256;
/// Bytes of such answers, unless a single one has more.
const MOST_BYTES: usize = 4 << 20;

/// What a model says about a request at a time.
#[derive(Debug)]
pub struct Answer {
    /// A response or an error; an end may come without either.
    pub outcome: Option<Outcome>,
    /// Nothing follows.
    pub last: bool,
    /// When the model gave it.
    pub given: Instant,
    /// How long it took to take it over.
    pub took: Duration,
}

impl Answer {
    /// What the model gave just now, when there is nothing to take over.
    #[must_use]
    pub fn now(outcome: Option<Outcome>, last: bool) -> Self {
        Self {
            outcome,
            last,
            given: Instant::now(),
            took: Duration::ZERO,
        }
    }
}

/// What became of an answer.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // It is looked at where it was made, and moves no further.
pub enum Sending {
    /// It is on its way, or its client is gone, which is the same to a model.
    Sent,
    /// The request had its last answer already.
    Closed,
    /// The client has not read what came before: the answer comes back.
    Full(Answer),
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Answer>,
    bytes: usize,
    waker: Option<Waker>,
    /// Threads that wait for room.
    waiting: usize,
    /// Answers that there were.
    answers: usize,
    /// Since when the model is at the next one.
    since: Instant,
    /// The last answer was given.
    finished: bool,
    /// Nobody reads any more.
    left: bool,
}

impl State {
    fn new(since: Instant) -> Self {
        Self {
            queue: VecDeque::new(),
            bytes: 0,
            waker: None,
            waiting: 0,
            answers: 0,
            since,
            finished: false,
            left: false,
        }
    }
}

#[derive(Debug)]
struct Channel {
    state: Mutex<State>,
    room: Condvar,
}

impl Channel {
    fn new(since: Instant) -> Self {
        Self {
            state: Mutex::new(State::new(since)),
            room: Condvar::new(),
        }
    }
}

fn size(answer: &Answer) -> usize {
    match &answer.outcome {
        Some(Ok(response)) => response
            .outputs
            .iter()
            .map(|tensor| tensor.data.len())
            .sum(),
        _ => 0,
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.queue.len() >= MOST_ANSWERS || self.bytes >= MOST_BYTES
    }

    fn push(&mut self, answer: Answer) {
        self.bytes += size(&answer);
        self.queue.push_back(answer);
    }

    fn clear(&mut self) -> VecDeque<Answer> {
        self.bytes = 0;
        std::mem::take(&mut self.queue)
    }
}

/// The end of a request at which it is answered. When the last holder lets go of it before the end, the
/// client is told so: no request waits for ever.
#[derive(Debug)]
pub struct Responder {
    channel: Arc<Channel>,
    version: Weak<Version>,
    received: Instant,
}

/// A responder, and the end at which its answers come out once the request was submitted.
pub fn open(version: &Arc<Version>, received: Instant) -> (Responder, Receiver) {
    let channel = Arc::new(Channel::new(received));
    let responder = Responder {
        channel: Arc::clone(&channel),
        version: Arc::downgrade(version),
        received,
    };
    (responder, Receiver(channel))
}

impl Responder {
    /// The request's batch has left the queue: from now on the model is at its first answer.
    pub fn begin(&self) {
        self.channel.state.lock().since = Instant::now();
    }

    /// Sends an answer unless it would have to wait.
    pub fn try_send(&self, answer: Answer) -> Sending {
        self.put(self.channel.state.lock(), answer)
    }

    /// Sends an answer once there is room. A client that reads nothing for as long as `patience` is given
    /// up: it may be slow, but it may not hold a model.
    pub fn send_within(&self, answer: Answer, patience: Duration) -> Sending {
        let end = Instant::now() + patience;
        let mut state = self.channel.state.lock();
        while state.is_full() && !state.left && !state.finished {
            state.waiting += 1;
            let late = self.channel.room.wait_until(&mut state, end).timed_out();
            state.waiting -= 1;
            if late && state.is_full() {
                return self.give_up(state, patience);
            }
        }
        self.put(state, answer)
    }

    /// Ends the request with an error, unless it has ended.
    pub fn fail(&self, error: Error) {
        self.close(error, Some(Failure::Backend));
    }

    /// Ends a request that the queue refused, and counted.
    pub fn refuse(&self, error: Error) {
        self.close(error, None);
    }

    /// Whether nobody waits for what is not answered yet.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let state = self.channel.state.lock();
        state.left && !state.finished
    }

    fn put(&self, mut state: MutexGuard<'_, State>, answer: Answer) -> Sending {
        if state.finished {
            return Sending::Closed;
        }
        let (left, last) = (state.left, answer.last);
        if state.is_full() && !left {
            return Sending::Full(answer);
        }
        let place = state.answers;
        state.answers += 1;
        state.finished = last;
        let good = !matches!(answer.outcome, Some(Err(_)));
        let took = self.took(&mut state, &answer);
        let mut waker = None;
        if !left {
            state.push(answer);
            waker = state.waker.take();
        }
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        if place == 0 && good && !left {
            self.observe_first();
        }
        self.count_answer(place, took);
        if last {
            let why = if left {
                Failure::Canceled
            } else {
                Failure::Backend
            };
            self.count((left || !good).then_some(why));
        }
        Sending::Sent
    }

    fn close(&self, error: Error, why: Option<Failure>) {
        let mut state = self.channel.state.lock();
        if std::mem::replace(&mut state.finished, true) {
            return;
        }
        let (left, place) = (state.left, state.answers);
        let answer = Answer::now(Some(Err(error)), true);
        let took = self.took(&mut state, &answer);
        if !left {
            state.push(answer);
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(why) = why {
            self.count_answer(place, took);
            self.count(Some(if left { Failure::Canceled } else { why }));
        }
    }

    fn give_up(&self, mut state: MutexGuard<'_, State>, patience: Duration) -> Sending {
        let unread = state.clear();
        state.left = true;
        // It is not the model that ended this: the model goes on until it learns of it.
        let why = Error::unavailable(format!(
            "the client read none of the responses that waited for it for {patience:?}"
        ));
        state.queue.push_back(Answer::now(Some(Err(why)), true));
        let waker = state.waker.take();
        drop(state);
        self.channel.room.notify_all();
        drop(unread);
        if let Some(waker) = waker {
            waker.wake();
        }
        Sending::Sent
    }

    /// What an answer is, and how long the model and the taking over took; the next one begins.
    fn took(&self, state: &mut State, answer: &Answer) -> (Kind, Duration, Duration) {
        let infer = answer.given.saturating_duration_since(state.since);
        state.since = Instant::now();
        let kind = match &answer.outcome {
            _ if state.left => Kind::Cancelled,
            Some(Ok(_)) => Kind::Success,
            Some(Err(_)) => Kind::Fail,
            None => Kind::Empty,
        };
        (kind, infer, answer.took)
    }

    fn count_answer(&self, place: usize, (kind, infer, output): (Kind, Duration, Duration)) {
        if let Some(version) = self.version.upgrade() {
            let responses = &version.statistics.responses;
            responses.count(place, kind, infer, output);
        }
    }

    fn observe_first(&self) {
        if let Some(version) = self.version.upgrade()
            && let Some(buckets) = version.statistics.latencies.first_response.as_deref()
        {
            buckets.observe(self.received.elapsed().as_secs_f64() * 1e3);
        }
    }

    fn count(&self, failure: Option<Failure>) {
        let Some(version) = self.version.upgrade() else {
            return;
        };
        let (statistics, lasted) = (&version.statistics, self.received.elapsed());
        statistics.request_latency.observe(lasted);
        match failure {
            Some(why) => statistics.failed(why, lasted),
            None => statistics.success.add(1, lasted),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let version = self.version.upgrade();
        let model = version.as_ref().map_or("", |version| &*version.spec.name);
        self.fail(Error::internal(format!(
            "model '{model}' let go of the response sender of this request before the last response \
             (flags=TRITONSERVER_RESPONSE_COMPLETE_FINAL)"
        )));
    }
}

/// Where the answers of a request come out that is not submitted yet.
#[derive(Debug)]
pub struct Receiver(Arc<Channel>);

impl Receiver {
    /// The answers of the submitted request whose place in the lane is `reply`.
    pub fn submitted(self, reply: Reply, traced: Option<Traced>) -> Responses {
        let unread = Unread {
            channel: self.0,
            _reply: reply,
        };
        Responses {
            source: Source::Model(unread),
            traced,
        }
    }
}

/// What a model has answered and nobody has read.
#[derive(Debug)]
struct Unread {
    channel: Arc<Channel>,
    _reply: Reply,
}

#[derive(Debug)]
enum Source {
    Model(Unread),
    Ensemble(Box<Run>),
}

/// The answers of a request, as they come. Dropping it tells queue and model that nobody waits any more.
#[derive(Debug)]
pub struct Responses {
    source: Source,
    traced: Option<Traced>,
}

impl Unread {
    fn poll_next(&self, context: &mut Context<'_>) -> Poll<Answer> {
        let mut state = self.channel.state.lock();
        let Some(answer) = state.queue.pop_front() else {
            match &mut state.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        };
        state.bytes = state.bytes.saturating_sub(size(&answer));
        let awaited = state.waiting > 0;
        drop(state);
        if awaited {
            self.channel.room.notify_all();
        }
        Poll::Ready(answer)
    }
}

impl Responses {
    /// The answers of an ensemble.
    pub fn of_ensemble(run: Run, traced: Option<Traced>) -> Self {
        Self {
            source: Source::Ensemble(Box::new(run)),
            traced,
        }
    }

    /// The next answer; nothing must be asked for behind the last one.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Answer> {
        let answer = ready!(match &mut self.source {
            Source::Model(unread) => unread.poll_next(context),
            Source::Ensemble(run) => run.poll_next(context),
        });
        self.trace(&answer);
        Poll::Ready(answer)
    }

    fn trace(&self, answer: &Answer) {
        let Some(trace) = self.traced.as_ref().map(Traced::trace) else {
            return;
        };
        match &answer.outcome {
            Some(Ok(InferResponse { outputs, .. })) => trace.answered(outputs),
            Some(Err(why)) => trace.failed(why),
            None => {}
        }
        if answer.last {
            trace.mark(Point::RequestEnd);
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let unread = {
            let mut state = self.channel.state.lock();
            state.left = true;
            state.waker = None;
            state.clear()
        };
        self.channel.room.notify_all();
        drop(unread);
    }
}

#[cfg(test)]
mod tests;
