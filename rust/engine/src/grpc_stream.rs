// SPDX-License-Identifier: Apache-2.0
//! `ModelStreamInfer`: requests come and answers go at the same time (`spec/triton.md` 2.4).
//!
//! All of it happens while the connection asks for the next piece of the answer, on the thread that owns
//! the connection: a client that does not read is not read from either, and dropping the body of the answer drops
//! everything that is under way. Requests that are answered once are answered in their order; answers of
//! decoupled models go out as they come, in turn.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use bytestring::ByteString;
use hyper::HeaderMap;
use hyper::body::Incoming;
use nerite_logic::Error;
use nerite_logic::message::{Asked, InferRequest, InferResponse};
use nerite_logic::wire::grpc::answer::Frame;
use nerite_logic::wire::grpc::{
    InferEnvelope, encode_empty, encode_failure, encode_streamed, parse_version,
};
use smallvec::SmallVec;

use crate::body::{Piece, Source};
use crate::connection::drain_begins;
use crate::frames::Frames;
use crate::grpc::{Status, ok_trailers};
use crate::infer;
use crate::responses::{Answer, Responses};
use crate::server::Shared;
use crate::trace::{Point, Traced, mark};
use crate::version::Version;

/// Requests of one stream that may be under way; further ones wait in the socket.
const IN_FLIGHT: usize = 128;
/// Answers that go out before requests are looked for again.
const TURN: u32 = 32;
/// The metadata with which a client asks that errors end the stream.
const STRICT: &str = "triton_grpc_error";

type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// One stream, as the body of its answer.
pub struct InferStream {
    shared: Arc<Shared>,
    headers: HeaderMap,
    /// `None` once no more requests come.
    frames: Option<Frames>,
    /// `None` once it has happened.
    draining: Option<Waiting<()>>,
    /// Requests that are answered once, in the order in which they came.
    in_order: VecDeque<InOrder>,
    /// Requests to decoupled models, the next to be asked in front.
    live: VecDeque<Live>,
    strict: bool,
    in_a_row: u32,
    /// How it ends, if not well.
    ended: Option<Status>,
}

/// What the answers to a request must know of it.
struct Asker {
    version: Arc<Version>,
    /// The version as the client wrote it.
    written: ByteString,
    asked: Asked,
}

struct InOrder {
    /// `None` for a request that no model has seen.
    asker: Option<Asker>,
    id: ByteString,
    state: State,
}

enum State {
    Waiting(Waiting<Result<InferResponse, Error>>),
    Refused(Error),
}

struct Live {
    asker: Asker,
    responses: Responses,
    /// The client wants to be told of the end where no response tells it.
    empty_final: bool,
}

impl std::fmt::Debug for InferStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InferStream({} in flight)", self.in_flight())
    }
}

impl Source for InferStream {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        if self.in_a_row < TURN
            && let Some((head, tail)) = self.next_ready(context)
        {
            self.in_a_row += 1;
            return Poll::Ready(Piece::Data(head, tail));
        }
        self.in_a_row = 0;
        self.accept(context);
        if let Some((head, tail)) = self.next_ready(context) {
            return Poll::Ready(Piece::Data(head, tail));
        }
        if self.frames.is_some() || self.in_flight() > 0 {
            return Poll::Pending;
        }
        let trailers = self
            .ended
            .as_ref()
            .map_or_else(ok_trailers, Status::trailers);
        Poll::Ready(Piece::End(Some(trailers)))
    }
}

impl InferStream {
    /// The answer to the requests that come in `body`.
    pub fn new(headers: HeaderMap, body: Incoming, shared: Arc<Shared>) -> Self {
        let options = &shared.options;
        let frames = Frames::new(body, options.max_message_bytes, options.arrival_timeout());
        let mut draining = shared.draining();
        Self {
            strict: headers.get(STRICT).is_some_and(|value| value == "true"),
            headers,
            frames: Some(frames),
            draining: Some(Box::pin(async move { drain_begins(&mut draining).await })),
            in_order: VecDeque::new(),
            live: VecDeque::new(),
            in_a_row: 0,
            ended: None,
            shared,
        }
    }

    fn in_flight(&self) -> usize {
        self.in_order.len() + self.live.len()
    }

    /// Takes no more requests and forgets those that are under way.
    fn end(&mut self, status: Status) {
        self.ended = Some(status);
        self.frames = None;
        self.in_order.clear();
        self.live.clear();
    }

    /// Takes what requests have come, as many as may be under way.
    fn accept(&mut self, context: &mut Context<'_>) {
        if let Some(draining) = &mut self.draining
            && draining.as_mut().poll(context).is_ready()
        {
            self.draining = None;
            if self.frames.take().is_some() {
                self.ended = Some(Status::new(
                    14,
                    "GRPC server is shutting down and has stopped accepting new requests.",
                ));
            }
        }
        while self.in_flight() < IN_FLIGHT
            && let Some(frames) = &mut self.frames
            && let Poll::Ready(message) = frames.poll_next(context)
        {
            match message {
                Ok(Some(message)) => self.begin(message, context),
                Ok(None) => self.frames = None,
                Err(status) => self.end(status),
            }
        }
    }

    /// Sends a request on its way, or keeps its refusal until its turn.
    fn begin(&mut self, message: Bytes, context: &mut Context<'_>) {
        let received = Instant::now();
        let begun = InferEnvelope::decode(message)
            .map_err(|why| (ByteString::new(), why))
            .and_then(|envelope| {
                let id = envelope.id().clone();
                self.open(envelope, received).map_err(|why| (id, why))
            });
        let mut begun = match begun {
            Ok(Begun::Live(live)) => return self.live.push_back(live),
            Ok(Begun::InOrder(begun)) => begun,
            Err((id, why)) => InOrder {
                asker: None,
                id,
                state: State::Refused(why),
            },
        };
        // Asked once, a request is in the outbox; one that is over by then never got there.
        if let State::Waiting(waiting) = &mut begun.state
            && let Poll::Ready(Err(why)) = waiting.as_mut().poll(context)
        {
            begun.state = State::Refused(why);
            begun.asker = None;
        }
        self.in_order.push_back(begun);
    }

    fn open(&self, envelope: InferEnvelope, received: Instant) -> Result<Begun, Error> {
        let number = parse_version(envelope.model_version())?;
        let version = Arc::clone(self.shared.table().find(envelope.model_name(), number)?);
        let traced = self.shared.tracer.sample(&version, &self.headers, true);
        if let Some(traced) = &traced {
            traced.trace().mark_at(Point::ReceiveStart, received);
            traced.trace().mark_at(Point::ReceiveEnd, received);
        }
        let written = ByteString::from(envelope.model_version());
        let request = envelope
            .into_request(&version.spec)
            .inspect_err(|_| infer::refused(&version, received))?;
        let empty_final = request.control.empty_final;
        let asker = Asker {
            asked: request.take_asked(),
            version: Arc::clone(&version),
            written,
        };
        if version.spec.decoupled {
            let responses = infer::stream(&version, request, received, traced)?;
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

    /// What can be sent now.
    fn next_ready(&mut self, context: &mut Context<'_>) -> Option<Frame> {
        if let Some(first) = self.in_order.front_mut()
            && let Poll::Ready(frame) = first.poll(context)
        {
            self.in_order.pop_front();
            return self.sent(frame);
        }
        for _ in 0..self.live.len() {
            let mut live = self.live.pop_front()?;
            let Poll::Ready(answer) = live.responses.poll_next(context) else {
                self.live.push_back(live);
                continue;
            };
            let last = answer.last;
            let frame = live.frame(answer);
            if !last {
                self.live.push_back(live);
            }
            if let Some(frame) = frame {
                return self.sent(frame);
            }
        }
        None
    }

    /// The frame, or the end of the stream where the client asked that errors be it.
    fn sent(&mut self, frame: Result<Frame, Failed>) -> Option<Frame> {
        match frame {
            Ok(frame) => Some(frame),
            Err(failed) if self.strict && failed.seen => {
                self.end(Status::from(failed.error));
                None
            }
            Err(failed) => Some((failed.frame, SmallVec::new())),
        }
    }
}

enum Begun {
    InOrder(InOrder),
    Live(Live),
}

/// An error, and the message that tells it.
struct Failed {
    error: Error,
    frame: Bytes,
    /// A model has seen the request.
    seen: bool,
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
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, Failed>> {
        let outcome = match &mut self.state {
            State::Waiting(waiting) => std::task::ready!(waiting.as_mut().poll(context)),
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
        } = self;
        let labels = |output: &str| version.labels.get(output).map(Vec::as_slice);
        let encode = |response| {
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
    /// What a client is told of an answer, if anything.
    fn frame(&self, answer: Answer) -> Option<Result<Frame, Failed>> {
        let asker = &self.asker;
        match answer.outcome {
            Some(outcome) => Some(asker.frame(outcome, answer.last)),
            None if self.empty_final => {
                let name = &asker.version.spec.name;
                let frame = encode_empty(&asker.asked.id, name, &asker.written);
                Some(Ok((frame, SmallVec::new())))
            }
            None => None,
        }
    }
}
