// SPDX-License-Identifier: Apache-2.0
//! The one way into a model, for every transport.

use std::sync::Arc;
use std::time::Instant;

use nerite_logic::Error;
use nerite_logic::check::check;
use nerite_logic::message::{InferRequest, InferResponse};

use crate::lane;
use crate::statistics::Failure;
use crate::trace::{Point, Traced};
use crate::version::Version;

/// Checks a request, queues it, and waits for what the model answers.
///
/// # Errors
/// What the check, the queue or the model has to say.
pub async fn infer(
    version: &Arc<Version>,
    mut request: InferRequest,
    received: Instant,
    traced: Option<&Traced>,
) -> Result<InferResponse, Error> {
    let admission =
        check(&mut request, &version.spec).inspect_err(|_| refused(version, received))?;
    let trace = traced.map(Traced::trace);
    if let Some(trace) = trace {
        trace.requested(&request.id, &request.inputs);
    }
    let (rows, key) = (admission.rows, admission.key);
    let outcome = lane::submit(version, request, rows, key, received, trace.cloned())?.await;
    if let Some(trace) = trace {
        trace.mark(Point::RequestEnd);
        match &outcome {
            Ok(response) => trace.answered(&response.outputs),
            Err(why) => trace.failed(why),
        }
    }
    outcome
}

/// Counts a request that was refused before it reached the queue (Triton counts those nowhere).
pub fn refused(version: &Version, received: Instant) {
    version
        .statistics
        .failed(Failure::Other, received.elapsed());
}
