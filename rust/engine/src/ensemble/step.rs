// SPDX-License-Identifier: Apache-2.0
//! One step of a request to an ensemble: its request, and the answers to it as they come.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use nerite_logic::Error;
use nerite_logic::message::{InferRequest, InferResponse};
use nerite_logic::schedulers::ensemble::Call;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::counting::Timings;
use super::run::Run;
use crate::cache::Missed;
use crate::infer;
use crate::lane::{Aside, Reply};
use crate::responses::{Answer, Responses};
use crate::trace::{Trace, Traced};
use crate::version::Version;

type Room = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>;

/// A step that is under way.
pub struct Step {
    /// Which one.
    pub call: Call,
    /// The version that answers it.
    pub version: Arc<Version>,
    state: State,
    timings: Arc<Timings>,
    traced: Option<Traced>,
    /// Its place among the requests that there may be to this step.
    _room: Option<OwnedSemaphorePermit>,
}

enum State {
    /// There are as many requests to this step as there may be.
    Waiting(Room, Box<InferRequest>),
    Once(Reply, Option<Missed>),
    /// Its answer was kept.
    Known(Box<InferResponse>),
    Nested(Box<Run>),
    Many(Responses),
    /// It could not be begun.
    Refused(Error),
}

impl Step {
    /// Begins a step, once there is room for it.
    pub fn new(
        call: Call,
        version: Arc<Version>,
        request: InferRequest,
        timings: Arc<Timings>,
        parent: Option<&Arc<Trace>>,
        room: Option<&Arc<Semaphore>>,
    ) -> Self {
        let mut step = Self {
            call,
            traced: parent.map(|parent| parent.child(&version.spec, version.number)),
            version,
            state: State::Refused(Error::internal("a step that was not begun")),
            timings,
            _room: None,
        };
        match room.map(|room| Arc::clone(room).try_acquire_owned()) {
            None => step.state = step.begin(request),
            Some(Ok(permit)) => {
                step._room = Some(permit);
                step.state = step.begin(request);
            }
            Some(Err(_)) => {
                let room = room.map(Arc::clone);
                let room = async move { room?.acquire_owned().await.ok() };
                step.state = State::Waiting(Box::pin(room), Box::new(request));
            }
        }
        step
    }

    /// Whether it waits for room: what makes more of its kind should wait too.
    pub const fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(..))
    }

    /// Whether it may be answered again and again.
    pub const fn is_decoupled(&self) -> bool {
        matches!(self.state, State::Many(_))
    }

    fn begin(&mut self, request: InferRequest) -> State {
        self.open(request).unwrap_or_else(State::Refused)
    }

    fn open(&mut self, mut request: InferRequest) -> Result<State, Error> {
        let (version, received) = (&self.version, Instant::now());
        let timings = Some(Arc::clone(&self.timings));
        if version.spec.decoupled {
            let traced = self.traced.take();
            return infer::stream(version, request, received, traced, timings).map(State::Many);
        }
        let trace = self.traced.as_ref().map(Traced::trace);
        let admission = infer::admit(version, &mut request, received, trace)?;
        if version.ensemble.is_some() {
            let trace = trace.map(Arc::clone);
            let run = Run::new(version, request, admission.rows, received, trace, timings)?;
            return Ok(State::Nested(Box::new(run)));
        }
        let missed = match infer::known(version, &request, received, trace) {
            Ok(response) => return Ok(State::Known(Box::new(response))),
            Err(missed) => missed,
        };
        let trace = trace.map(Arc::clone);
        let aside = Aside {
            trace,
            timings,
            responder: None,
        };
        let reply = infer::submit(version, request, admission, received, aside)?;
        Ok(State::Once(reply, missed))
    }

    /// The next answer.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Answer> {
        if let State::Waiting(room, request) = &mut self.state {
            self._room = ready!(room.as_mut().poll(context));
            let request = std::mem::take(&mut **request);
            self.state = self.begin(request);
        }
        let outcome = match &mut self.state {
            State::Many(responses) => return responses.poll_next(context),
            State::Once(reply, missed) => {
                let outcome = ready!(Pin::new(reply).poll(context));
                if let Some(missed) = missed.take() {
                    missed.answered(&outcome);
                }
                outcome
            }
            State::Known(response) => Ok(std::mem::take(&mut **response)),
            State::Nested(run) => ready!(run.poll_only(context)),
            State::Refused(why) => Err(why.clone()),
            State::Waiting(..) => return Poll::Pending,
        };
        infer::ended(self.traced.as_ref().map(Traced::trace), &outcome);
        Poll::Ready(Answer::now(Some(outcome), true))
    }
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Step({})", self.version.spec.name)
    }
}
