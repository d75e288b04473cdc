// SPDX-License-Identifier: Apache-2.0
//! A request's response sender as Python holds it, and the requests of a batch that have one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nerite_engine::lane::{Outcome, Pending};
use nerite_engine::responses::{Answer, Responder, Sending};
use nerite_logic::Error;
use nerite_logic::message::{RequestedOutput, Tensor};
use nerite_logic::schedulers::Ticket;
use parking_lot::Mutex;
use pyo3::prelude::*;
use smallvec::SmallVec;

use crate::batch::Data;
use crate::call::without_gil;
use crate::outputs::{COPIED, single};
use crate::version::Held;

/// How long a model waits for a client that does not read.
const PATIENCE: Duration = Duration::from_secs(60);

/// The responders of a batch, each until its request has been executed: from then on only those keep it
/// who asked for it, so that its last holder's leaving is noticed.
#[derive(Default)]
pub struct Responders(Mutex<Vec<Option<Arc<Responder>>>>);

impl Responders {
    /// Takes the responders out of the requests of a batch.
    pub fn take(tickets: &mut [Ticket<Box<Pending>>]) -> Self {
        let each = tickets
            .iter_mut()
            .map(|ticket| ticket.payload.responder.take())
            .inspect(|responder| responder.iter().for_each(|each| each.begin()));
        Self(Mutex::new(each.collect()))
    }

    /// The responder of a request.
    pub fn of(&self, index: usize) -> Option<Arc<Responder>> {
        self.0.lock().get(index).cloned().flatten()
    }

    /// Answers every request with the last response that its outcome is.
    pub fn finish(&self, outcomes: Vec<Outcome>) {
        for (responder, outcome) in self.let_go().into_iter().zip(outcomes) {
            match (responder, outcome) {
                (Some(responder), Err(error)) => responder.fail(error),
                (Some(responder), Ok(response)) => {
                    // A queue that is full of unread answers is no reason to wait here.
                    let answer = Answer::now(Some(Ok(response)), true);
                    if let Sending::Full(_) = responder.try_send(answer) {
                        responder
                            .fail(Error::unavailable("the client does not read its responses"));
                    }
                }
                (None, _) => {}
            }
        }
    }

    /// Leaves the requests to whoever asked for their senders.
    pub fn let_go(&self) -> Vec<Option<Arc<Responder>>> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// Sends the responses to one request of a decoupled model.
#[pyclass(frozen, module = "nerite._core")]
pub struct ResponseSender {
    version: Arc<Held>,
    responder: Arc<Responder>,
    asked: SmallVec<[RequestedOutput; 2]>,
}

impl ResponseSender {
    /// The sender of a request of a batch.
    pub fn new(data: &Data, index: usize, responder: Arc<Responder>) -> Self {
        let ticket = data.tickets.get(index);
        Self {
            version: Arc::clone(&data.version),
            responder,
            asked: ticket.map_or_else(SmallVec::new, |t| t.payload.request.outputs.clone()),
        }
    }
}

/// Copies a tensor that is borrowed from Python: unlike one that `execute` returned it may be written again
/// as soon as it is sent.
fn own(tensor: &mut Tensor) {
    if tensor.data.len() > COPIED {
        tensor.data = Bytes::copy_from_slice(&tensor.data);
    }
}

#[pymethods]
impl ResponseSender {
    fn send(&self, py: Python<'_>, answer: Option<&Bound<'_, PyAny>>, last: bool) -> bool {
        let given = Instant::now();
        let mut outcome = answer.map(|answer| single(&self.version, &self.asked, answer));
        if let Some(Ok(response)) = &mut outcome {
            response.outputs.iter_mut().for_each(own);
        }
        let answer = Answer {
            outcome,
            last,
            given,
            took: given.elapsed(),
        };
        let sending = match self.responder.try_send(answer) {
            Sending::Full(answer) => {
                without_gil(py, || self.responder.send_within(answer, PATIENCE))
            }
            sending => sending,
        };
        matches!(sending, Sending::Sent)
    }

    fn is_cancelled(&self) -> bool {
        self.responder.is_cancelled()
    }
}
