// SPDX-License-Identifier: Apache-2.0
//! The one way into a model, for every transport.

use std::sync::Arc;
use std::time::Instant;

use nerite_logic::check::{adapt, check};
use nerite_logic::message::{InferRequest, InferResponse};
use nerite_logic::{Error, parts};

use crate::in_parts;
use crate::lane;
use crate::responses::{self, Responses};
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
    if version.spec.as_kserve {
        adapt(&mut request, &version.spec).inspect_err(|_| refused(version, received))?;
        let cut = parts::split(&request, &version.spec);
        if !cut.is_empty() {
            return in_parts::infer(version, cut, received).await;
        }
    }
    whole(version, request, received, traced).await
}

/// The same with a request that is as its model declares it.
///
/// # Errors
/// As above.
pub async fn whole(
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
    let submitted = lane::submit(version, request, rows, key, received, trace.cloned(), None);
    let outcome = submitted
        .inspect_err(|why| turned_away(version, why, received))?
        .await;
    if let Some(trace) = trace {
        trace.mark(Point::RequestEnd);
        match &outcome {
            Ok(response) => trace.answered(&response.outputs),
            Err(why) => trace.failed(why),
        }
    }
    outcome
}

/// Checks a request to a decoupled model and queues it; its answers come as they come.
///
/// # Errors
/// What the check has to say.
pub fn stream(
    version: &Arc<Version>,
    mut request: InferRequest,
    received: Instant,
    traced: Option<Traced>,
) -> Result<Responses, Error> {
    let admission =
        check(&mut request, &version.spec).inspect_err(|_| refused(version, received))?;
    let trace = traced.as_ref().map(Traced::trace);
    if let Some(trace) = trace {
        trace.requested(&request.id, &request.inputs);
    }
    let (responder, receiver) = responses::open(version, received);
    let (rows, key, trace) = (admission.rows, admission.key, trace.cloned());
    let responder = Some(Arc::new(responder));
    let reply = lane::submit(version, request, rows, key, received, trace, responder)
        .inspect_err(|why| turned_away(version, why, received))?;
    Ok(receiver.submitted(reply, traced))
}

/// Counts a request for which there was no place before the queue.
fn turned_away(version: &Version, why: &Error, received: Instant) {
    let reason = Failure::of_refusal(why);
    version.statistics.failed(reason, received.elapsed());
}

/// Counts a request that was refused before it reached the queue (Triton counts those nowhere).
pub fn refused(version: &Version, received: Instant) {
    version
        .statistics
        .failed(Failure::Other, received.elapsed());
}
