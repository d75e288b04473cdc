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

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Answer>,
    bytes: usize,
    waker: Option<Waker>,
    /// Threads that wait for room.
    waiting: usize,
    /// There was an answer.
    begun: bool,
    /// The last answer was given.
    finished: bool,
    /// Nobody reads any more.
    left: bool,
}

#[derive(Debug, Default)]
struct Channel {
    state: Mutex<State>,
    room: Condvar,
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
    let channel = Arc::new(Channel::default());
    let responder = Responder {
        channel: Arc::clone(&channel),
        version: Arc::downgrade(version),
        received,
    };
    (responder, Receiver(channel))
}

impl Responder {
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
        let first = !std::mem::replace(&mut state.begun, true);
        state.finished = last;
        let good = !matches!(answer.outcome, Some(Err(_)));
        let mut waker = None;
        if !left {
            state.push(answer);
            waker = state.waker.take();
        }
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        if first && good && !left {
            self.observe_first();
        }
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
        let left = state.left;
        if !left {
            state.push(Answer {
                outcome: Some(Err(error)),
                last: true,
            });
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(why) = why {
            self.count(Some(if left { Failure::Canceled } else { why }));
        }
    }

    fn give_up(&self, mut state: MutexGuard<'_, State>, patience: Duration) -> Sending {
        let unread = state.clear();
        state.left = true;
        // It is not the model that ended this: the model goes on until it learns of it.
        state.queue.push_back(Answer {
            outcome: Some(Err(Error::unavailable(format!(
                "the client read none of the responses that waited for it for {patience:?}"
            )))),
            last: true,
        });
        let waker = state.waker.take();
        drop(state);
        self.channel.room.notify_all();
        drop(unread);
        if let Some(waker) = waker {
            waker.wake();
        }
        Sending::Sent
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
mod tests {
    use super::*;

    fn channel() -> (Responder, Arc<Channel>) {
        let channel = Arc::new(Channel::default());
        let responder = Responder {
            channel: Arc::clone(&channel),
            version: Weak::new(),
            received: Instant::now(),
        };
        (responder, channel)
    }

    fn answer(last: bool) -> Answer {
        Answer {
            outcome: Some(Ok(InferResponse::default())),
            last,
        }
    }

    fn last_error(channel: &Channel) -> String {
        let mut state = channel.state.lock();
        match state.queue.pop_back() {
            Some(Answer {
                outcome: Some(Err(why)),
                last: true,
            }) => why.message.into_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_that_finds_no_room_comes_back_and_waits_until_there_is() {
        let (responder, channel) = channel();
        for _ in 0..MOST_ANSWERS {
            assert!(matches!(responder.try_send(answer(false)), Sending::Sent));
        }
        let Sending::Full(answer) = responder.try_send(answer(true)) else {
            panic!("there was room");
        };
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| responder.send_within(answer, Duration::from_secs(60)));
            while channel.state.lock().waiting == 0 {
                std::thread::yield_now();
            }
            channel.state.lock().queue.pop_front();
            channel.room.notify_all();
            assert!(matches!(sending.join().unwrap(), Sending::Sent));
        });
        assert_eq!(channel.state.lock().queue.len(), MOST_ANSWERS);
    }

    #[test]
    fn a_client_that_reads_nothing_is_given_up() {
        let (responder, channel) = channel();
        for _ in 0..MOST_ANSWERS {
            responder.try_send(answer(false));
        }
        let patience = Duration::from_millis(5);
        assert!(matches!(
            responder.send_within(answer(false), patience),
            Sending::Sent
        ));
        assert!(responder.is_cancelled());
        assert!(matches!(responder.try_send(answer(false)), Sending::Sent));
        assert_eq!(channel.state.lock().queue.len(), 1);
        assert_eq!(
            last_error(&channel),
            "the client read none of the responses that waited for it for 5ms"
        );
    }

    #[test]
    fn nothing_follows_the_last_answer_and_there_always_is_one() {
        let (responder, channel) = channel();
        assert!(matches!(responder.try_send(answer(true)), Sending::Sent));
        assert!(matches!(responder.try_send(answer(false)), Sending::Closed));
        responder.fail(Error::internal("too late"));
        drop(responder);
        assert_eq!(channel.state.lock().queue.len(), 1);

        let (responder, channel) = self::channel();
        responder.refuse(Error::unavailable("the queue is full"));
        assert_eq!(last_error(&channel), "the queue is full");
        assert!(matches!(responder.try_send(answer(false)), Sending::Closed));

        let (responder, channel) = self::channel();
        drop(responder);
        assert!(last_error(&channel).contains("let go of the response sender"));
    }

    #[test]
    fn large_answers_fill_the_queue_by_their_bytes() {
        let (responder, channel) = channel();
        channel.state.lock().bytes = MOST_BYTES;
        assert!(matches!(
            responder.try_send(answer(false)),
            Sending::Full(_)
        ));
        channel.state.lock().left = true;
        assert!(matches!(responder.try_send(answer(false)), Sending::Sent));
        assert!(channel.state.lock().queue.is_empty());
    }
}
