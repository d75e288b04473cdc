// SPDX-License-Identifier: Apache-2.0
//! Steps that the server itself answers: what follows the arrival of a body, without its way.

use std::sync::Arc;

use hyper::http::request::Parts;
use hyper::{HeaderMap, Request};
use nerite_logic::gateway::graph::{Answer, Stopped, Target as Place};
use nerite_logic::gateway::payload::Payload;

use super::hosted::Hosted;
use super::outside::{request, send, taken};
use super::{Asked, Boxed, Call, Outcome, Steps, header_length, headers_of, run};
use crate::failure::Failure;
use crate::reply::{HEADER_LENGTH, Reply};
use crate::request_body::at_once;
use crate::routes::doors::Dialect;
use crate::routes::{Named, Route, Target, V1};
use crate::shared::Shared;
use crate::{v1, v2};

/// What the path of a step may be.
const ACCEPTED: &str = "a path of this server is /v1/models/NAME:predict, /v2/models/NAME/infer, the same \
                        with /versions/N, or /graphs/NAMESPACE/NAME; anything else begins with http:// or \
                        https://";

/// The models and graphs of a server answer, and whoever else a URL names.
pub struct Own<'g> {
    /// The server.
    pub shared: &'g Arc<Shared>,
    /// The graphs as they were when the request came.
    pub graphs: &'g Hosted,
}

impl Steps for Own<'_> {
    fn ask<'s>(&'s self, call: Call<'s>) -> Boxed<'s> {
        Box::pin(async move {
            match call.target {
                Place::Path(path) => self.path(path, call).await,
                Place::Url {
                    tls,
                    authority,
                    path,
                } => {
                    let target = call.target;
                    let request = request(call, authority, path)?;
                    let reach = &self.shared.graphs.reach;
                    let reply = send(*tls, authority, request, reach).await?;
                    taken(reply, self.shared.options.max_request_bytes, target).await
                }
                target => Err(Stopped::Cause(format!("{target} is not asked as a step"))),
            }
        })
    }
}

impl Own<'_> {
    async fn path(&self, path: &str, call: Call<'_>) -> Outcome {
        let replied = match Route::of_step(path) {
            Some(Route::ModelInfer(target)) => self.infer(target, call).await,
            Some(Route::V1(V1::Predict(target))) => self.predict(target, call).await,
            Some(Route::Graph(named)) => return self.graph(named, call).await,
            _ => {
                let text = format!("the URL \"{path}\" is not usable: {ACCEPTED}");
                return Err(Stopped::Cause(text));
            }
        };
        answer(replied.unwrap_or_else(|failure| failure.into_reply(Dialect::Triton)))
    }

    async fn predict(&self, target: Target<'_>, call: Call<'_>) -> Result<Reply, Failure> {
        let version = v1::predicting(target, self.shared)?;
        let head = head(headers_of(&call));
        let arrived = at_once(&version, &head.headers, call.input.body, self.shared);
        v1::predicted(&version, target, &head, arrived, self.shared).await
    }

    async fn infer(&self, target: Target<'_>, call: Call<'_>) -> Result<Reply, Failure> {
        let version = v2::inferring(target, self.shared)?;
        let head = head(headers_of(&call));
        let arrived = at_once(&version, &head.headers, call.input.body, self.shared);
        let declared = head.headers.get(&HEADER_LENGTH);
        let declared = declared.map(hyper::header::HeaderValue::as_bytes);
        v2::inferred(&version, &head, declared, arrived, self.shared).await
    }

    async fn graph(&self, named: Named<'_>, call: Call<'_>) -> Outcome {
        let inner = self.graphs.find(named);
        let inner = inner.map_err(|why| Stopped::Cause(why.message.into_owned()))?;
        let asked = Asked {
            headers: call.headers.clone(),
            payload: call.input,
            trail: call.trail.below(),
        };
        run(&inner.flow, asked, self).await
    }
}

/// The head of a request that had no way.
fn head(headers: HeaderMap) -> Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.headers = headers;
    head
}

fn answer(reply: Reply) -> Outcome {
    let status = reply.status().as_u16();
    let length = header_length(reply.headers());
    let body = reply.into_body().into_bytes();
    let body = body.ok_or_else(|| Stopped::Cause("the answer is a stream".into()))?;
    let json_length = length.filter(|length| *length < body.len());
    Ok(Answer {
        status,
        payload: Payload { body, json_length },
    })
}
