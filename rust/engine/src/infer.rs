// SPDX-License-Identifier: Apache-2.0
//! The one way into a model, for every transport and for the steps of ensembles.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

use nerite_logic::Error;
use nerite_logic::check::{Admission, adapt, check};
use nerite_logic::message::{InferRequest, InferResponse};

use crate::cache::Missed;
use crate::ensemble::counting::Timings;
use crate::ensemble::run::Run;
use crate::in_parts;
use crate::lane::{self, Aside, Outcome, Reply};
use crate::responses::{self, Responses};
use crate::statistics::Failure;
use crate::trace::{Point, Trace, Traced};
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
        return in_parts::infer(version, request, received, traced).await;
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
    let trace = traced.map(Traced::trace);
    let admission = admit(version, &mut request, received, trace)?;
    let outcome = if version.ensemble.is_some() {
        let (rows, trace) = (admission.rows, trace.cloned());
        Box::pin(through(version, request, rows, received, trace)).await
    } else {
        match known(version, &request, received, trace) {
            Ok(response) => Ok(response),
            Err(missed) => {
                let aside = Aside {
                    trace: trace.cloned(),
                    ..Aside::default()
                };
                let outcome = submit(version, request, admission, received, aside)?.await;
                if let Some(missed) = missed {
                    missed.answered(&outcome);
                }
                outcome
            }
        }
    };
    ended(trace, &outcome);
    outcome
}

/// The answer to a request that was kept, which passes the same points of its trace as any other but those
/// of an instance.
///
/// # Errors
/// There is none, which is none: with what it takes to keep the one to come, if the model's are kept.
pub fn known(
    version: &Arc<Version>,
    request: &InferRequest,
    received: Instant,
    trace: Option<&Arc<Trace>>,
) -> Result<InferResponse, Option<Missed>> {
    let cached = version.cached.get().ok_or(None)?;
    let response = cached.answer(version, request, received)?;
    if let Some(trace) = trace {
        trace.mark(Point::QueueStart);
    }
    Ok(response)
}

/// The answer of an ensemble.
async fn through(
    version: &Arc<Version>,
    request: InferRequest,
    rows: u32,
    received: Instant,
    trace: Option<Arc<Trace>>,
) -> Outcome {
    let mut run = Run::new(version, request, rows, received, trace, None)?;
    poll_fn(|context| run.poll_only(context)).await
}

/// Checks a request to a decoupled model and queues it; its answers come as they come. The step of an
/// ensemble adds to `timings`.
///
/// # Errors
/// What the check has to say.
pub fn stream(
    version: &Arc<Version>,
    mut request: InferRequest,
    received: Instant,
    traced: Option<Traced>,
    timings: Option<Arc<Timings>>,
) -> Result<Responses, Error> {
    let trace = traced.as_ref().map(Traced::trace);
    let admission = admit(version, &mut request, received, trace)?;
    let trace = trace.cloned();
    if version.ensemble.is_some() {
        let run = Run::new(version, request, admission.rows, received, trace, timings)?;
        return Ok(Responses::of_ensemble(run, traced));
    }
    let (responder, receiver) = responses::open(version, received);
    let aside = Aside {
        trace,
        timings,
        responder: Some(Arc::new(responder)),
    };
    let reply = submit(version, request, admission, received, aside)?;
    Ok(receiver.submitted(reply, traced))
}

/// Holds a request against its model's declaration.
///
/// # Errors
/// What is wrong with it.
pub fn admit(
    version: &Version,
    request: &mut InferRequest,
    received: Instant,
    trace: Option<&Arc<Trace>>,
) -> Result<Admission, Error> {
    let admission = check(request, &version.spec).inspect_err(|_| refused(version, received))?;
    if let Some(trace) = trace {
        trace.requested(&request.id, &request.inputs);
    }
    Ok(admission)
}

/// Puts a request that was admitted into its queue.
///
/// # Errors
/// If there is no place before the queue; that is counted.
pub fn submit(
    version: &Arc<Version>,
    request: InferRequest,
    admission: Admission,
    received: Instant,
    aside: Aside,
) -> Result<Reply, Error> {
    lane::submit(version, request, admission, received, aside).inspect_err(|why| {
        let reason = Failure::of_refusal(why);
        version.statistics.failed(reason, received.elapsed());
    })
}

/// Notes in its trace what became of a request.
pub fn ended(trace: Option<&Arc<Trace>>, outcome: &Outcome) {
    if let Some(trace) = trace {
        trace.mark(Point::RequestEnd);
        match outcome {
            Ok(response) => trace.answered(&response.outputs),
            Err(why) => trace.failed(why),
        }
    }
}

/// Counts a request that was refused before it reached the queue (Triton counts those nowhere).
pub fn refused(version: &Version, received: Instant) {
    version
        .statistics
        .failed(Failure::Other, received.elapsed());
}
