// SPDX-License-Identifier: Apache-2.0
//! V1 requests of many callers joined into one, and its answer shared out. Requests that say more than their
//! instances go alone, as they are.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response};
use nerite_logic::gateway::batching::{Part, joined, part_of, split};
use nerite_logic::gateway::failure::{Failure, Kind};
use tokio::sync::oneshot;

use super::batch::{Batch, Batcher, Caller, Outcome};
use super::bodies::{Reply, collected};
use super::failures;
use super::forward::forward;
use super::live::Component;
use super::outgoing::Outgoing;
use super::shared::Shared;
use super::speech::Speech;

/// What a caller's body brings to a batch; nothing if it goes alone.
///
/// # Errors
/// If it has no instances.
pub fn part(component: &Component, body: &[u8]) -> Result<Option<Part>, Failure> {
    part_of(body).map_err(|why| component.failure(Kind::BadRequest, why))
}

/// Answers one caller.
///
/// # Errors
/// If the component gave no answer that can be split.
pub async fn predict(
    component: &Arc<Component>,
    batcher: &Batcher,
    path: &str,
    part: Part,
    shared: &Arc<Shared>,
) -> Result<Response<Reply>, Failure> {
    let (answer, waiting) = oneshot::channel();
    let (full, begun) = batcher.add(path, Caller { part, answer });
    let path = path.to_owned();
    // Both run on their own: a caller that leaves must not take the others' batch with it.
    if let Some(batch) = full {
        tokio::spawn(send(Arc::clone(component), path, batch, Arc::clone(shared)));
    } else if let Some(id) = begun {
        let (component, shared) = (Arc::clone(component), Arc::clone(shared));
        tokio::spawn(async move {
            let Some(batcher) = &component.batcher else {
                return;
            };
            tokio::time::sleep(batcher.max_latency).await;
            if let Some(batch) = batcher.overdue(&path, id) {
                send(Arc::clone(&component), path, batch, shared).await;
            }
        });
    }
    let ended = || component.failure(Kind::Unavailable, "the gateway ends");
    let (status, body) = waiting.await.map_err(|_| ended())??;
    Ok(failures::json(status, body))
}

async fn send(component: Arc<Component>, path: String, mut batch: Batch, shared: Arc<Shared>) {
    batch.callers.retain(|caller| !caller.answer.is_closed());
    if batch.callers.is_empty() {
        return;
    }
    shared.counters.batches.fetch_add(1, Ordering::Relaxed);
    let parts: Vec<&Part> = batch.callers.iter().map(|caller| &caller.part).collect();
    let counts: Vec<usize> = parts.iter().map(|part| part.count).collect();
    let answered = ask(&component, &path, joined(&parts), &shared).await;
    let answers = match answered {
        Ok((200, body)) => split(&body, &counts, &batch.id.to_string())
            .map(|answers| {
                answers
                    .into_iter()
                    .map(|text| Ok((200, text.into())))
                    .collect()
            })
            .unwrap_or_else(|why| {
                vec![Err(component.failure(Kind::BadGateway, &why)); counts.len()]
            }),
        other => vec![other; counts.len()],
    };
    for (caller, answer) in batch.callers.into_iter().zip(answers) {
        // One that has left meanwhile needs no answer.
        let _ = caller.answer.send(answer);
    }
}

async fn ask(component: &Component, path: &str, body: String, shared: &Shared) -> Outcome {
    let mut request = Request::new(Outgoing::whole(body.into()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path
        .parse()
        .map_err(|why| component.failure(Kind::BadRequest, &format!("path '{path}': {why}")))?;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(CONTENT_TYPE, json);
    super::hops::set_host(
        request.headers_mut(),
        &HeaderValue::from_static("localhost"),
    );
    let reply = forward(component, Speech::Http, request, shared).await?;
    let status = reply.status().as_u16();
    let body = collected(reply.into_body(), shared.options.max_request_bytes)
        .await
        .map_err(|why| component.failure(Kind::BadGateway, &format!("its answer {why}")))?;
    Ok((status, body))
}
