// SPDX-License-Identifier: Apache-2.0
//! Steps that somebody else answers, over the connections that `gateway::upstream` keeps.

use std::sync::Arc;

use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, Response};
use nerite_logic::gateway::graph::{Answer, Stopped};
use nerite_logic::gateway::payload::Payload;

use super::{Call, Outcome, header_length, headers_of};
use crate::gateway::bodies::{Reply, collected};
use crate::gateway::outgoing::Outgoing;
use crate::gateway::secure::TLS;
use crate::gateway::speech::Speech;
use crate::gateway::upstream::{self, Reach, Unanswered};

/// What a step sends.
///
/// # Errors
/// If `authority` or `path` cannot be sent.
pub fn request(call: Call<'_>, authority: &str, path: &str) -> Result<Request<Outgoing>, Stopped> {
    let target = call.target;
    let made = || {
        let uri = path.parse()?;
        let host = HeaderValue::from_str(authority)?;
        let mut headers = headers_of(&call);
        headers.insert(HOST, host);
        let mut request = Request::new(Outgoing::whole(call.input.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    };
    made().map_err(|why: hyper::http::Error| {
        Stopped::Cause(format!("{target} cannot be asked: {why}"))
    })
}

/// Asks whoever is at `authority`.
///
/// # Errors
/// If there is no answer.
pub async fn send(
    tls: bool,
    authority: &str,
    request: Request<Outgoing>,
    reach: &Reach,
) -> Result<Response<Reply>, Stopped> {
    let named_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, p)| p.parse::<u16>().is_ok());
    let address: Arc<str> = match (tls, named_port) {
        (false, true) => authority.into(),
        (false, false) => format!("{authority}:80").into(),
        (true, true) => format!("{TLS}{authority}").into(),
        (true, false) => format!("{TLS}{authority}:443").into(),
    };
    match upstream::send(&address, Speech::Http, request, reach).await {
        Ok((answer, lease)) => {
            let (head, body) = answer.into_parts();
            let body = Reply::passing(body, lease, None);
            Ok(Response::from_parts(head, body))
        }
        Err(Unanswered::Unreachable(_, why)) => Err(Stopped::Cause(why)),
        Err(Unanswered::Broken(why)) => Err(Stopped::Cause(format!(
            "{address} broke off before it answered: {why}"
        ))),
    }
}

/// The whole answer of a step, at most `limit` bytes; `from` is whom it asked.
///
/// # Errors
/// If it breaks off or is longer.
pub async fn taken(reply: Response<Reply>, limit: usize, from: &impl ToString) -> Outcome {
    let status = reply.status().as_u16();
    let length = header_length(reply.headers());
    let body = collected(reply.into_body(), limit)
        .await
        .map_err(|why| Stopped::Cause(format!("the answer of {} {why}", from.to_string())))?;
    let json_length = length.filter(|length| *length < body.len());
    Ok(Answer {
        status,
        payload: Payload { body, json_length },
    })
}
