// SPDX-License-Identifier: Apache-2.0
//! Running an InferenceGraph: its steps are asked over the same connections as any component, without
//! another pass through the gateway. What a step is asked and what its answer means is decided in
//! `nerite_logic::gateway::graph`.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use nerite_logic::Error;
use nerite_logic::gateway::failure::{Failure, Kind};
use nerite_logic::gateway::graph::{
    Answer, Before, Graph, NO_MATCH, Node, Router, Step, Stopped, Target, cause,
};
use nerite_logic::gateway::headers::host_of;
use nerite_logic::gateway::payload::Payload;
use nerite_logic::gateway::propagation::Propagation;
use nerite_logic::gateway::weights::Shares;
use parking_lot::Mutex;

use super::bodies::{Outgoing, Reply, collected};
use super::failures;
use super::live::{Live, Speech};
use super::proxy::forward;
use super::secure::TLS;
use super::server::Shared;
use super::upstream::{self, Unanswered};

/// Where a graph says that it is there.
const READY: &str = "/readyz";
/// Nodes within nodes, and graphs within graphs; more is a circle.
const DEEPEST: usize = 32;
static HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A graph with what it remembers from request to request.
#[derive(Debug)]
pub struct Flow {
    graph: Graph,
    /// The shares of each node that splits.
    shares: Vec<Mutex<Shares>>,
    propagation: Propagation,
}

impl Flow {
    /// Makes a graph live.
    ///
    /// # Errors
    /// If it is not usable.
    pub fn new(written: serde_json::Value) -> Result<Self, Error> {
        let graph = Graph::from_value(written)?;
        let shares = graph.nodes.iter().map(|node| {
            let weights = node.steps.iter().map(|step| step.weight);
            Mutex::new(Shares::new(weights))
        });
        let patterns = graph.propagate_headers.iter().map(String::as_str);
        Ok(Self {
            shares: shares.collect(),
            propagation: Propagation::new(patterns),
            graph,
        })
    }
}

/// What of a request a graph looks at.
pub struct Asked {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub payload: Payload,
    /// How many graphs it came through.
    pub depth: usize,
}

/// Answers a request by a graph.
///
/// # Errors
/// If the graph takes too long.
pub async fn answer(
    flow: &Flow,
    path: &str,
    asked: Asked,
    live: &Live,
    shared: &Shared,
) -> Result<Response<Reply>, Failure> {
    if path == READY {
        return Ok(Response::new(Reply::Whole(None)));
    }
    let answered = run(flow, asked, live, shared);
    let answered = match flow.graph.timeout_secs.map(Duration::from_secs_f64) {
        None => answered.await,
        Some(limit) => tokio::time::timeout(limit, answered).await.map_err(|_| {
            let text = format!("the graph took longer than {} s", limit.as_secs_f64());
            Failure::new(Kind::Late, text)
        })?,
    };
    Ok(match answered {
        Ok(answer) => reply(answer),
        Err(Stopped::NoMatch) => failures::json(404, cause(NO_MATCH)),
        Err(Stopped::Cause(text)) => failures::json(500, cause(&text)),
    })
}

fn reply(answer: Answer) -> Response<Reply> {
    let content_type = answer.payload.content_type();
    let length = answer.payload.json_length;
    let mut reply = Response::new(Reply::whole(answer.payload.body));
    *reply.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    if let Some(content_type) = content_type {
        let value = HeaderValue::from_static(content_type);
        reply.headers_mut().insert(CONTENT_TYPE, value);
    }
    if let Some(length) = length {
        reply
            .headers_mut()
            .insert(HEADER_LENGTH.clone(), length.into());
    }
    reply
}

async fn run(flow: &Flow, asked: Asked, live: &Live, shared: &Shared) -> Outcome {
    let mut headers = asked.headers;
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| !flow.propagation.includes(name.as_str()))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
    headers.remove(&HEADER_LENGTH);
    let run = Run {
        flow,
        live,
        shared,
        headers,
    };
    run.node(flow.graph.root, asked.payload, asked.depth).await
}

/// How a step or a node ended.
type Outcome = Result<Answer, Stopped>;
type Boxed<'r> = Pin<Box<dyn Future<Output = Outcome> + Send + 'r>>;

struct Run<'r> {
    flow: &'r Flow,
    live: &'r Live,
    shared: &'r Shared,
    /// What every step is sent.
    headers: HeaderMap,
}

impl Run<'_> {
    fn node(&self, index: usize, request: Payload, depth: usize) -> Boxed<'_> {
        Box::pin(async move {
            let Some(node) = self.flow.graph.nodes.get(index) else {
                return Err(Stopped::Cause(format!("the graph has no node {index}")));
            };
            if depth > DEEPEST {
                let text = format!("node \"{}\" lies {DEEPEST} nodes deep: a circle", node.name);
                return Err(Stopped::Cause(text));
            }
            match &node.router {
                Router::Sequence => self.sequence(node, &request, depth).await,
                Router::Switch => self.step(node.choose(&request)?, request, depth).await,
                Router::Splitter => {
                    let turn = self.flow.shares.get(index).and_then(|s| s.lock().turn());
                    match turn.and_then(|turn| node.steps.get(turn)) {
                        Some(step) => self.step(step, request, depth).await,
                        None => Err(no_steps(node)),
                    }
                }
                Router::Ensemble => {
                    let steps = node.steps.iter();
                    let steps = steps.map(|step| self.step(step, request.clone(), depth));
                    node.merge(&all(steps.collect()).await?)
                }
                Router::Unknown(name) => Err(Stopped::Cause(format!("invalid route type: {name}"))),
            }
        })
    }

    async fn sequence(&self, node: &Node, request: &Payload, depth: usize) -> Outcome {
        let mut previous: Option<Answer> = None;
        for step in &node.steps {
            if step.before(previous.as_ref())? == Before::End {
                break;
            }
            let input = step.input(request, previous.as_ref());
            let answer = self.step(step, input, depth).await?;
            if step.hard && !answer.is_success() {
                return Ok(answer);
            }
            previous = Some(answer);
        }
        previous.ok_or_else(|| no_steps(node))
    }

    fn step<'s>(&'s self, step: &'s Step, input: Payload, depth: usize) -> Boxed<'s> {
        match &step.target {
            Target::Node(index) => self.node(*index, input, depth + 1),
            Target::Unusable(why) => Box::pin(async move { Err(Stopped::Cause(why.clone())) }),
            Target::Url {
                tls,
                authority,
                path,
            } => Box::pin(async move {
                let call = self.call(*tls, authority, path, input, depth);
                match self
                    .flow
                    .graph
                    .step_timeout_secs
                    .map(Duration::from_secs_f64)
                {
                    None => call.await,
                    Some(limit) => tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
                        let limit = limit.as_secs_f64();
                        Err(Stopped::Cause(format!(
                            "http://{authority}{path} gave no answer within {limit} s"
                        )))
                    }),
                }
            }),
        }
    }

    async fn call(
        &self,
        tls: bool,
        authority: &str,
        path: &str,
        input: Payload,
        depth: usize,
    ) -> Outcome {
        let place = self.live.table.at_host(host_of(authority), path);
        let component = place.and_then(|place| self.live.component(place));
        let failed = |failure: Failure| Stopped::Cause(failure.text);
        if let Some(flow) = component.and_then(|component| component.flow.as_ref()) {
            let asked = Asked {
                headers: self.headers.clone(),
                payload: input,
                depth: depth + 1,
            };
            return run(flow, asked, self.live, self.shared).await;
        }
        let request = self.request(authority, path, input).map_err(|why| {
            Stopped::Cause(format!("http://{authority}{path} cannot be asked: {why}"))
        })?;
        let reply = match component {
            Some(component) => {
                let sent = forward(component, Speech::Http, request, self.shared);
                sent.await.map_err(failed)?
            }
            None => self.outside(tls, authority, request).await?,
        };
        let status = reply.status().as_u16();
        let length = header_length(reply.headers());
        let limit = self.shared.options.max_request_bytes;
        let body = collected(reply.into_body(), limit).await.map_err(|why| {
            Stopped::Cause(format!("the answer of http://{authority}{path} {why}"))
        })?;
        let json_length = length.filter(|length| *length < body.len());
        Ok(Answer {
            status,
            payload: Payload { body, json_length },
        })
    }

    /// Asks a service that this gateway does not serve.
    async fn outside(
        &self,
        tls: bool,
        authority: &str,
        request: Request<Outgoing>,
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
        let sent = upstream::send(&address, Speech::Http, request, &self.shared.reach);
        match sent.await {
            Ok((answer, lease)) => {
                let (head, body) = answer.into_parts();
                Ok(Response::from_parts(
                    head,
                    Reply::passing(body, lease, None),
                ))
            }
            Err(Unanswered::Unreachable(_, why)) => Err(Stopped::Cause(why)),
            Err(Unanswered::Broken(why)) => Err(Stopped::Cause(format!(
                "{address} broke off before it answered: {why}"
            ))),
        }
    }

    fn request(
        &self,
        authority: &str,
        path: &str,
        input: Payload,
    ) -> hyper::http::Result<Request<Outgoing>> {
        let mut request = Request::new(Outgoing::whole(input.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.parse()?;
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        headers.insert(HOST, HeaderValue::from_str(authority)?);
        if let Some(length) = input.json_length {
            headers.insert(HEADER_LENGTH.clone(), length.into());
            headers.insert(CONTENT_TYPE, OCTETS);
        } else if !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, JSON);
        }
        Ok(request)
    }
}

fn no_steps(node: &Node) -> Stopped {
    let text = format!("node \"{}\" has no step to take", node.name);
    Stopped::Cause(text)
}

/// The length of the JSON in front of a V2 body with raw tensors.
pub fn header_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(&HEADER_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Runs steps at the same time. Ends with the first failure in their order as soon as it is known, and
/// takes the others back.
async fn all(mut pending: Vec<Boxed<'_>>) -> Result<Vec<Answer>, Stopped> {
    let mut done: Vec<Option<Outcome>> = pending.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (step, outcome) in pending.iter_mut().zip(&mut done) {
            if outcome.is_none()
                && let Poll::Ready(ended) = step.as_mut().poll(context)
            {
                *outcome = Some(ended);
            }
        }
        let known = done.iter().take_while(|outcome| outcome.is_some());
        let failed = known.flatten().any(Result::is_err);
        match failed || done.iter().all(Option::is_some) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}
