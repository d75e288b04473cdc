// SPDX-License-Identifier: Apache-2.0
//! `ModelStreamInfer`: requests come and answers go at the same time (`spec/triton.md` 2.4).
//!
//! All of it happens while the connection asks for the next piece of the answer, on the thread that owns
//! the connection: a client that does not read is not read from either, and dropping the body of the answer drops
//! everything that is under way. Requests that are answered once are answered in their order; answers of
//! decoupled models go out as they come, in turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;
use hyper::HeaderMap;
use hyper::body::Incoming;
use nerite_logic::Error;
use nerite_logic::wire::grpc::answer::Frame;
use nerite_logic::wire::grpc::{InferEnvelope, parse_version};
use smallvec::SmallVec;
use tokio::time::sleep;

use crate::body::{Piece, Source};
use crate::door::drain_begins;
use crate::frames::Frames;
use crate::frames::frames_of;
use crate::grpc_status::{Status, ok_trailers};
use crate::infer;
use crate::routes::guard::Entered;
use crate::shared::Shared;
use crate::stream_requests::{Begun, Failed, InOrder, Live, Waiting, begin};
use crate::trace::Point;

/// Requests of one stream that may be under way; further ones wait in the socket.
const IN_FLIGHT: usize = 128;
/// Answers that go out before requests are looked for again.
const TURN: u32 = 32;
/// The metadata with which a client asks that errors end the stream.
const STRICT: &str = "triton_grpc_error";

/// One stream, as the body of its answer.
pub struct InferStream {
    shared: Arc<Shared>,
    entered: Entered,
    headers: HeaderMap,
    /// `None` once no more requests come.
    frames: Option<Frames>,
    /// `None` once it has happened.
    draining: Option<Waiting<()>>,
    /// Over when the client waits no longer; `None` if that is for ever.
    deadline: Option<Waiting<()>>,
    /// Requests that are answered once, in the order in which they came.
    in_order: VecDeque<InOrder>,
    /// Requests to decoupled models, the next to be asked in front.
    live: VecDeque<Live>,
    strict: bool,
    in_a_row: u32,
    /// How it ends, if not well.
    ended: Option<Status>,
}

impl std::fmt::Debug for InferStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InferStream({} in flight)", self.in_flight())
    }
}

impl Source for InferStream {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            self.deadline = None;
            self.end(Status::too_late());
        }
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
    /// The answer to the requests that come in `body`, for as long as `limit` says.
    pub fn new(
        entered: Entered,
        headers: HeaderMap,
        body: Incoming,
        limit: Option<Duration>,
        shared: Arc<Shared>,
    ) -> Self {
        let frames = frames_of(body, &headers, &shared);
        let mut draining = shared.draining();
        Self {
            strict: headers.get(STRICT).is_some_and(|value| value == "true"),
            entered,
            headers,
            frames: Some(frames),
            draining: Some(Box::pin(async move { drain_begins(&mut draining).await })),
            deadline: limit.map(|limit| Box::pin(sleep(limit)) as Waiting<()>),
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
        let admitted = self.entered.admit(message);
        let begun = admitted
            .and_then(|call| InferEnvelope::decode(call.into_message()))
            .map_err(|why| (ByteString::new(), why))
            .and_then(|envelope| {
                let id = envelope.id().clone();
                self.open(envelope, received).map_err(|why| (id, why))
            });
        match begun {
            Ok(Begun::Live(live)) => self.live.push_back(live),
            Ok(Begun::InOrder(mut begun)) => {
                begun.submit(context);
                self.in_order.push_back(begun);
            }
            Err((id, why)) => self.in_order.push_back(InOrder::refused(id, why)),
        }
    }

    fn open(&self, envelope: InferEnvelope, received: Instant) -> Result<Begun, Error> {
        let number = parse_version(envelope.model_version())?;
        let version = Arc::clone(self.shared.table().find(envelope.model_name(), number)?);
        let traced = self
            .shared
            .tracer
            .sample(version.traced(), &self.headers, true);
        if let Some(traced) = &traced {
            traced.trace().mark_at(Point::ReceiveStart, received);
            traced.trace().mark_at(Point::ReceiveEnd, received);
        }
        let written = ByteString::from(envelope.model_version());
        let parsed = envelope.into_request(&version.spec);
        let attached = parsed.and_then(|mut request| {
            let parameters = &mut request.parameters;
            self.shared.forward.grpc(&self.headers, parameters)?;
            self.shared.regions.attach(request)
        });
        let (request, targets) = attached.inspect_err(|_| infer::refused(&version, received))?;
        begin(version, written, request, targets, received, traced)
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
            let Poll::Ready((last, told)) = live.poll(context) else {
                self.live.push_back(live);
                continue;
            };
            if !last {
                self.live.push_back(live);
            }
            if let Some(frame) = told {
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
