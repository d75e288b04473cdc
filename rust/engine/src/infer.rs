// SPDX-License-Identifier: Apache-2.0
//! The one way into a model, for every transport.

use std::sync::Arc;
use std::time::Instant;

use nerite_logic::Error;
use nerite_logic::check::check;
use nerite_logic::message::{InferRequest, InferResponse};

use crate::lane;
use crate::statistics::Failure;
use crate::version::Version;

/// Checks a request, queues it, and waits for what the model answers.
///
/// # Errors
/// What the check, the queue or the model has to say.
pub async fn infer(
    version: &Arc<Version>,
    mut request: InferRequest,
    received: Instant,
) -> Result<InferResponse, Error> {
    let admission =
        check(&mut request, &version.spec).inspect_err(|_| refused(version, received))?;
    lane::submit(version, request, admission.rows, admission.key, received)?.await
}

/// Counts a request that was refused before it reached the queue (Triton counts those nowhere).
pub fn refused(version: &Version, received: Instant) {
    version
        .statistics
        .failed(Failure::Other, received.elapsed());
}
