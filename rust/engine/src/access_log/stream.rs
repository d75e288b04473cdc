// SPDX-License-Identifier: Apache-2.0
//! A stream on its way to the client, and its line of the log once it has ended or was left.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::HeaderMap;

use super::{AccessLog, Line, grpc_status};
use crate::body::{Piece, Source};

/// A stream that is followed to its end.
#[derive(Debug)]
pub(super) struct Followed {
    source: Box<dyn Source>,
    log: Arc<AccessLog>,
    /// `None` once it is written.
    line: Option<Line>,
    bytes: u64,
    responses: u64,
}

/// What nginx writes where a client has left before it was answered in full, and gRPC's CANCELLED.
const CLIENT_LEFT: (u16, &str) = (499, "1");

impl Followed {
    pub(super) const fn new(source: Box<dyn Source>, log: Arc<AccessLog>, line: Line) -> Self {
        Self {
            source,
            log,
            line: Some(line),
            bytes: 0,
            responses: 0,
        }
    }

    /// Writes the line of a stream that ended with these trailers, or was left by its client.
    fn end(&mut self, trailers: Option<&HeaderMap>, left: bool) {
        let Some(mut line) = self.line.take() else {
            return;
        };
        match (&mut line.grpc_status, trailers) {
            (Some(status), Some(trailers)) => *status = grpc_status(trailers),
            (Some(status), None) if left => CLIENT_LEFT.1.clone_into(status),
            (None, _) if left => line.status = CLIENT_LEFT.0,
            _ => {}
        }
        line.bytes = self.bytes;
        line.responses = Some(self.responses);
        self.log.write(line);
    }
}

impl Source for Followed {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        let polled = self.source.poll_piece(context);
        match &polled {
            Poll::Ready(Piece::Data(head, tail)) => {
                let length = head.len() + tail.iter().map(Bytes::len).sum::<usize>();
                self.bytes += length as u64;
                self.responses += 1;
            }
            Poll::Ready(Piece::End(trailers)) => self.end(trailers.as_ref(), false),
            Poll::Pending => {}
        }
        polled
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.end(None, true);
    }
}
