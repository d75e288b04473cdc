// SPDX-License-Identifier: Apache-2.0
//! Requests that the control plane answers: JSON in, JSON out, on a thread of its own.
//!
//! Endpoints that touch models rather than requests live in Python. An I/O thread puts such a call here
//! and goes on with other work until the answer comes.

use std::collections::VecDeque;

use bytes::Bytes;
use nerite_logic::Error;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// Calls that may wait at a time; one more is refused.
const WAITING: usize = 1_024;

/// A call on its way to the control plane. Dropping it without an answer answers with an error.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub verb: &'static str,
    /// The JSON body, possibly empty.
    pub payload: Bytes,
    answer: oneshot::Sender<Result<Bytes, Error>>,
}

impl Call {
    /// Answers the call; a caller that has gone away is no error.
    pub fn answer(self, answer: Result<Bytes, Error>) {
        let _ = self.answer.send(answer);
    }
}

#[derive(Debug, Default)]
struct Calls {
    waiting: VecDeque<Call>,
    stopped: bool,
}

/// The calls of an engine.
#[derive(Debug, Default)]
pub struct Control {
    calls: Mutex<Calls>,
    arrived: Condvar,
}

impl Control {
    /// Asks the control plane and waits for its answer.
    ///
    /// # Errors
    /// What the control plane answers, or UNAVAILABLE if it is not there.
    pub async fn ask(&self, verb: &'static str, payload: Bytes) -> Result<Bytes, Error> {
        let (answer, answered) = oneshot::channel();
        {
            let mut calls = self.calls.lock();
            if calls.stopped || calls.waiting.len() >= WAITING {
                return Err(Error::unavailable(format!(
                    "server cannot answer '{verb}' now"
                )));
            }
            calls.waiting.push_back(Call {
                verb,
                payload,
                answer,
            });
        }
        self.arrived.notify_one();
        answered
            .await
            .unwrap_or_else(|_| Err(Error::internal(format!("'{verb}' was not answered"))))
    }

    /// Has the control plane log a warning; nobody waits for it.
    pub fn tell(&self, warning: Bytes) {
        let (answer, _) = oneshot::channel();
        let mut calls = self.calls.lock();
        if !calls.stopped && calls.waiting.len() < WAITING {
            calls.waiting.push_back(Call {
                verb: "warning",
                payload: warning,
                answer,
            });
            drop(calls);
            self.arrived.notify_one();
        }
    }

    /// Waits for the next call; `None` once [`Control::stop`] was called.
    pub fn next(&self) -> Option<Call> {
        let mut calls = self.calls.lock();
        loop {
            if let Some(call) = calls.waiting.pop_front() {
                return Some(call);
            }
            if calls.stopped {
                return None;
            }
            self.arrived.wait(&mut calls);
        }
    }

    /// Lets everyone who waits for a call go.
    pub fn stop(&self) {
        let mut calls = self.calls.lock();
        calls.stopped = true;
        calls.waiting.clear();
        self.arrived.notify_all();
    }
}
