// SPDX-License-Identifier: Apache-2.0
//! What the routes of graphs answer.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use nerite_logic::gateway::graph::digest;
use serde::Serialize;

use super::hosted::Told;
use super::own::Own;
use super::{Asked, header_length};
use crate::access_log::RequestId;
use crate::body::ReplyBody;
use crate::failure::Failure;
use crate::gateway::hops;
use crate::reply::{Reply, empty, json};
use crate::request_body::{read_aligned, read_body};
use crate::routes::Named;
use crate::routes::guard::Sight;
use crate::shared::Shared;
use crate::v1::request_id;

/// The graphs of which somebody may ask every model.
pub fn list(sight: Sight<'_>, shared: &Shared) -> Reply {
    #[derive(Serialize)]
    struct List {
        graphs: Vec<Told>,
    }
    let graphs = shared.graphs.seen(sight);
    json(&List { graphs })
}

/// That a graph is there.
///
/// # Errors
/// If it is not.
pub fn ready(named: Named<'_>, shared: &Shared) -> Result<Reply, Failure> {
    shared.graphs.table.load().find(named)?;
    Ok(empty(StatusCode::OK))
}

/// Answers a request by a graph.
///
/// # Errors
/// If there is no such graph, whoever asks may not ask it, or it takes too long.
pub async fn ask(
    named: Named<'_>,
    sight: Sight<'_>,
    head: &Parts,
    body: &mut Incoming,
    shared: &Arc<Shared>,
) -> Result<Reply, Failure> {
    let graphs = shared.graphs.table.load_full();
    let graph = graphs.find(named)?;
    if !sight.is_whole() {
        graphs.admits(graph, sight)?;
    }
    let body = read_aligned(head, body, header_length(&head.headers), shared).await?;
    let own = Own {
        shared,
        graphs: &graphs,
    };
    let asked = asked(head, body, sight, shared);
    let answered = super::answer(&graph.flow, asked, &own, ReplyBody::one).await;
    let mut reply = answered.map_err(|late| {
        let text = format!("graph '{}/{}': {late}", named.namespace, named.name);
        Failure::Status(StatusCode::GATEWAY_TIMEOUT, text)
    })?;
    if shared.access_log.is_some() {
        let id = RequestId(request_id(&head.headers));
        reply.extensions_mut().insert(id);
    }
    Ok(reply)
}

/// What the graph looks at. The body is no longer as it was sent, so nothing says that it is; and what
/// opened this server is for no other.
fn asked(head: &Parts, body: Bytes, sight: Sight<'_>, shared: &Shared) -> Asked {
    let mut headers = head.headers.clone();
    hops::strip(&mut headers);
    headers.remove(CONTENT_ENCODING);
    headers.remove(ACCEPT_ENCODING);
    if sight.is_keyed() {
        headers.remove(AUTHORIZATION);
    }
    for group in &shared.options.http_restricted {
        headers.remove(&group.header);
    }
    Asked::of(headers, body)
}

/// Puts a graph, or deletes it.
///
/// # Errors
/// If the body is no graph, or there is none to delete.
pub async fn change(
    named: Named<'_>,
    head: &Parts,
    body: &mut Incoming,
    shared: &Shared,
) -> Result<Reply, Failure> {
    let graphs = &shared.graphs;
    if head.method == Method::DELETE {
        if !graphs.remove(named.namespace, named.name) {
            return Err(graphs.table.load().unknown(named).into());
        }
        return Ok(json(&serde_json::json!({})));
    }
    let written = read_body(head, body, shared).await?;
    let replaced = graphs.put(named.namespace, named.name, &written)?;
    let mut reply = json(&Told {
        namespace: named.namespace.to_owned(),
        name: named.name.to_owned(),
        digest: digest(&written),
    });
    if !replaced {
        *reply.status_mut() = StatusCode::CREATED;
    }
    Ok(reply)
}
