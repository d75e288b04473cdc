// SPDX-License-Identifier: Apache-2.0
//! Requests that are too long for their model: asked for in parts, several of them at a time.

use std::sync::Arc;
use std::time::Instant;

use nerite_logic::message::{InferRequest, InferResponse};
use nerite_logic::{Error, parts};
use tokio::task::JoinSet;

use crate::infer;
use crate::version::Version;

/// Parts of one request that are with the model at a time: one request is not to fill its queue.
const PARTS: usize = 8;

/// Infers with the parts of a request that is too long for the model. The first failure is the answer.
///
/// # Errors
/// What the check, the queue or the model has to say of a part.
pub async fn infer(
    version: &Arc<Version>,
    parts: Vec<InferRequest>,
    received: Instant,
) -> Result<InferResponse, Error> {
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
