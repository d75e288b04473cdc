// SPDX-License-Identifier: Apache-2.0
//! To a component's replicas, the least busy that can be reached first.

use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response};
use nerite_logic::gateway::failure::{Failure, Kind};

use super::bodies::Reply;
use super::hops;
use super::live::{Component, Working};
use super::outgoing::Outgoing;
use super::shared::Shared;
use super::speech::Speech;
use super::upstream::{self, Answered, Unanswered};

/// Takes a request to the least busy replica that can be reached.
pub async fn forward(
    component: &Component,
    speech: Speech,
    mut request: Request<Outgoing>,
    shared: &Shared,
) -> Result<Response<Reply>, Failure> {
    if !component.at.is_empty() {
        if speech == Speech::Grpc {
            let text = format!("it is asked over HTTP only, at {}", component.at);
            return Err(component.failure(Kind::Unsupported, &text));
        }
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", PathAndQuery::as_str);
        let below = format!("{}{path}", component.at).parse();
        *request.uri_mut() = below.map_err(|why| {
            component.failure(Kind::BadRequest, &format!("the path '{path}': {why}"))
        })?;
    }
    let sent = forward_in_time(component, speech, request, shared);
    let Some(limit) = component.timeout else {
        return sent.await;
    };
    tokio::time::timeout(limit, sent).await.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", limit.as_secs_f64());
        Err(component.failure(Kind::Late, &text))
    })
}

async fn forward_in_time(
    component: &Component,
    speech: Speech,
    mut request: Request<Outgoing>,
    shared: &Shared,
) -> Result<Response<Reply>, Failure> {
    let mut unreachable = String::new();
    let group = component.turn()?;
    let mut place = component.pass(group).await?;
    for replica in component.candidates(group, speech)? {
        let Some(address) = replica.address(speech) else {
            continue;
        };
        let mut working = Working::on(&replica);
        match upstream::send(address, speech, request, &shared.reach).await {
            Ok(answered) => {
                working.place = place.take();
                return Ok(passed_on(answered, working));
            }
            Err(Unanswered::Unreachable(unsent, why)) => {
                request = *unsent;
                unreachable = why;
            }
            Err(Unanswered::Broken(why)) => {
                let text = format!("{address} broke off before it answered: {why}");
                return Err(component.failure(Kind::BadGateway, &text));
            }
        }
    }
    Err(component.failure(Kind::Unavailable, &unreachable))
}

fn passed_on((answer, lease): Answered, working: Working) -> Response<Reply> {
    let (mut head, body) = answer.into_parts();
    hops::strip(&mut head.headers);
    Response::from_parts(head, Reply::passing(body, lease, Some(working)))
}
