// SPDX-License-Identifier: Apache-2.0
//! One request of a `ModelStreamInfer` stream: what it waits for, and what its client is told.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use bytestring::ByteString;
use nerite_logic::Error;
use nerite_logic::message::{Asked, InferRequest, InferResponse};
use nerite_logic::wire::grpc::answer::Frame;
use nerite_logic::wire::grpc::{encode_empty, encode_failure, encode_streamed};
use smallvec::SmallVec;

use crate::infer;
use crate::responses::{Answer, Responses};
use crate::shared_memory::Targets;
use crate::trace::{Point, Traced, mark};
use crate::version::Version;

/// Something that will happen, on the thread that owns the connection.
pub type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the answers to a request must know of it.
struct Asker {
    version: Arc<Version>,
    /// The version as the client wrote it.
    written: ByteString,
    asked: Asked,
    targets: Targets,
}

/// A request that is answered once, or not at all.
pub struct InOrder {
    /// `None` for a request that no model has seen.
    asker: Option<Asker>,
    id: ByteString,
    state: State,
}

enum State {
    Waiting(Waiting<Result<InferResponse, Error>>),
    /// Its answer was in the response cache.
    Kept(Box<InferResponse>),
    Refused(Error),
}

/// A request to a decoupled model.
pub struct Live {
    asker: Asker,
    responses: Responses,
    /// The client wants to be told of the end where no response tells it.
    empty_final: bool,
}

/// A request on its way.
pub enum Begun {
    /// Its answer has its turn.
    InOrder(InOrder),
    /// Its answers go out as they come.
    Live(Live),
}

/// An error, and the message that tells it.
pub struct Failed {
    /// The error.
    pub error: Error,
    /// The message.
    pub frame: Bytes,
    /// Whether a model has seen the request.
    pub seen: bool,
}

/// Begins a request, of which the client wrote the version as `written`.
///
/// # Errors
/// What the check of a request to a decoupled model has to say.
pub fn begin(
    version: Arc<Version>,
    written: ByteString,
    request: InferRequest,
    targets: Targets,
    received: Instant,
    traced: Option<Traced>,
) -> Result<Begun, Error> {
    let empty_final = request.control.empty_final;
    let asker = Asker {
        asked: request.take_asked(),
        version: Arc::clone(&version),
        written,
        targets,
    };
    if version.spec.decoupled {
        let responses = infer::stream(&version, request, received, traced, None)?;
        return Ok(Begun::Live(Live {
            asker,
            responses,
            empty_final,
        }));
    }
    Ok(Begun::InOrder(InOrder {
        id: asker.asked.id.clone(),
        asker: Some(asker),
        state: State::Waiting(Box::pin(answer_once(version, request, received, traced))),
    }))
}

async fn answer_once(
    version: Arc<Version>,
    request: InferRequest,
    received: Instant,
    traced: Option<Traced>,
) -> Result<InferResponse, Error> {
    let outcome = infer::infer(&version, request, received, traced.as_ref()).await;
    mark(traced.as_ref(), Point::ResponseComplete);
    outcome
}

impl InOrder {
    /// A request that is not begun at all.
    pub const fn refused(id: ByteString, why: Error) -> Self {
        Self {
            asker: None,
            id,
            state: State::Refused(why),
        }
    }

    /// Asked once, a request is in the outbox; one that is over by then never got there.
    pub fn submit(&mut self, context: &mut Context<'_>) {
        if let State::Waiting(waiting) = &mut self.state
            && let Poll::Ready(outcome) = waiting.as_mut().poll(context)
        {
            self.state = match outcome {
                Ok(response) => State::Kept(Box::new(response)),
                Err(why) => {
                    self.asker = None;
                    State::Refused(why)
                }
            };
        }
    }

    /// Its answer.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failed>> {
        let outcome = match &mut self.state {
            State::Waiting(waiting) => ready!(waiting.as_mut().poll(context)),
            State::Kept(response) => Ok(std::mem::take(&mut **response)),
            State::Refused(why) => Err(why.clone()),
        };
        Poll::Ready(match (&self.asker, outcome) {
            (Some(asker), outcome) => asker.frame(outcome, true),
            (None, Ok(_)) => Err(unseen(
                &self.id,
                Error::internal("answer without a request"),
            )),
            (None, Err(why)) => Err(unseen(&self.id, why)),
        })
    }
}

fn unseen(id: &str, error: Error) -> Failed {
    Failed {
        frame: encode_failure(id, None, true, &error.message),
        error,
        seen: false,
    }
}

impl Asker {
    fn frame(&self, outcome: Result<InferResponse, Error>, last: bool) -> Result<Frame, Failed> {
        let Self {
            version,
            written,
            asked,
            targets,
        } = self;
        let labels = |output: &str| version.labels.get(output).map(Vec::as_slice);
        let encode = |mut response| {
            targets.write(asked, &mut response)?;
            let number = &version.number_text;
            encode_streamed(&version.spec, number, asked, response, last, &labels)
        };
        outcome.and_then(encode).map_err(|error| Failed {
            frame: encode_failure(
                &asked.id,
                Some((&version.spec.name, written)),
                last,
                &error.message,
            ),
            error,
            seen: true,
        })
    }
}

impl Live {
    /// Whether its next answer is the last, and what the client is told of it, if anything.
    pub fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<(bool, Option<Result<Frame, Failed>>)> {
        let Answer { outcome, last, .. } = ready!(self.responses.poll_next(context));
        let asker = &self.asker;
        let told = match outcome {
            Some(outcome) => Some(asker.frame(outcome, last)),
            None if self.empty_final => {
                let name = &asker.version.spec.name;
                let frame = encode_empty(&asker.asked.id, name, &asker.written);
                Some(Ok((frame, SmallVec::new())))
            }
            None => None,
        };
        Poll::Ready((last, told))
    }
}
