// SPDX-License-Identifier: Apache-2.0
//! Requests that are too long for their model: asked for in parts, several of them at a time.

use std::sync::Arc;
use std::time::Instant;

use nerite_logic::message::{InferRequest, InferResponse};
use nerite_logic::{Error, parts};
use tokio::task::JoinSet;

use crate::infer;
use crate::trace::Traced;
use crate::version::Version;

/// Parts of one request that are with the model at a time: one request is not to fill its queue.
const PARTS: usize = 8;

/// Infers with a request that may be too long for its model: such a one is asked in parts. The first failure
/// is the answer.
///
/// # Errors
/// What the check, the queue or the model has to say of the request, or of a part.
pub async fn infer(
    version: &Arc<Version>,
    request: InferRequest,
    received: Instant,
    traced: Option<&Traced>,
) -> Result<InferResponse, Error> {
    let parts = parts::split(&request, &version.spec);
    if parts.is_empty() {
        return infer::whole(version, request, received, traced).await;
    }
    let mut answers = vec![InferResponse::default(); parts.len()];
    let mut waiting = parts.into_iter().enumerate();
    let mut running = JoinSet::new();
    loop {
        // Dropped with the connection, and with it what is still queued.
        while running.len() < PARTS
            && let Some((index, part)) = waiting.next()
        {
            let version = Arc::clone(version);
            running
                .spawn(async move { (index, infer::whole(&version, part, received, None).await) });
        }
        let Some(ended) = running.join_next().await else {
            return parts::join(&answers, &version.spec);
        };
        let (index, answer) =
            ended.map_err(|why| Error::internal(format!("a part of a request ended: {why}")))?;
        if let Some(place) = answers.get_mut(index) {
            *place = answer?;
        }
    }
}
