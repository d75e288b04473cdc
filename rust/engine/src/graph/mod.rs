// SPDX-License-Identifier: Apache-2.0
//! Running an InferenceGraph, in the gateway as in a server. What a step is asked and what its answer
//! means is decided in `nerite_logic::gateway::graph`; who answers it is whoever runs the graph ([`Steps`]):
//! the gateway asks components, a server its own models.

pub mod asked;
pub mod hosted;
pub mod outside;
mod own;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use nerite_logic::Error;
use nerite_logic::gateway::graph::{
    Answer, Before, Graph, NO_MATCH, Node, Router, Step, Stopped, Target, cause,
};
use nerite_logic::gateway::payload::Payload;
use nerite_logic::gateway::propagation::Propagation;
use nerite_logic::gateway::weights::Shares;
use parking_lot::Mutex;

use crate::reply::HEADER_LENGTH;

/// Where a graph says that it is there.
pub const READY: &str = "/readyz";
/// Nodes within nodes, and graphs within graphs; more is a circle.
const DEEPEST: usize = 32;
/// Nodes that one request may come to: circles within circles would double at each turn.
const MOST: usize = 4096;
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
    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.graph.nodes
    }

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
    /// What it came through.
    pub trail: Trail,
}

/// The nodes and graphs that lie above a node, and how many the request came to in all.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    depth: usize,
    visited: Arc<AtomicUsize>,
}

impl Trail {
    /// One node or graph further down.
    #[must_use]
    pub fn below(&self) -> Self {
        Self {
            depth: self.depth + 1,
            visited: Arc::clone(&self.visited),
        }
    }

    fn enter(&self, node: &Node) -> Result<(), Stopped> {
        let visited = self.visited.fetch_add(1, Ordering::Relaxed);
        let text = match (self.depth > DEEPEST, visited >= MOST) {
            (false, false) => return Ok(()),
            (true, _) => format!("lies {DEEPEST} nodes deep: a circle"),
            (_, true) => format!("comes after {MOST} others: a circle"),
        };
        let text = format!("node \"{}\" {text}", node.name);
        Err(Stopped::Cause(text))
    }
}

impl Asked {
    /// A request as it came.
    #[must_use]
    pub fn of(headers: HeaderMap, body: Bytes) -> Self {
        let json_length = header_length(&headers).filter(|length| *length < body.len());
        Self {
            headers,
            payload: Payload { body, json_length },
            trail: Trail::default(),
        }
    }
}

/// What a step that is no node asks.
pub struct Call<'c> {
    /// Whom it asks.
    pub target: &'c Target,
    /// The headers that go to every step.
    pub headers: &'c HeaderMap,
    /// What it is asked.
    pub input: Payload,
    /// What lies above it.
    pub trail: &'c Trail,
}

/// Whoever answers the steps of a graph.
pub trait Steps: Sync {
    /// Answers a step that is no node.
    fn ask<'s>(&'s self, call: Call<'s>) -> Boxed<'s>;
}

/// A graph took longer than it may.
#[derive(Clone, Copy, Debug)]
pub struct Late(Duration);

impl std::fmt::Display for Late {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the graph took longer than {} s", self.0.as_secs_f64())
    }
}

/// Answers a request by a graph; `whole` makes the body of the reply.
///
/// # Errors
/// If the graph takes too long.
pub async fn answer<B>(
    flow: &Flow,
    asked: Asked,
    steps: &impl Steps,
    whole: impl FnOnce(Bytes) -> B,
) -> Result<Response<B>, Late> {
    let answered = run(flow, asked, steps);
    let answered = match flow.graph.timeout_secs.map(Duration::from_secs_f64) {
        None => answered.await,
        Some(limit) => tokio::time::timeout(limit, answered)
            .await
            .map_err(|_| Late(limit))?,
    };
    Ok(match answered {
        Ok(answer) => reply(answer, whole),
        Err(Stopped::NoMatch) => failed(404, whole(cause(NO_MATCH))),
        Err(Stopped::Cause(text)) => failed(500, whole(cause(&text))),
    })
}

fn reply<B>(answer: Answer, whole: impl FnOnce(Bytes) -> B) -> Response<B> {
    let content_type = answer.payload.content_type();
    let length = answer.payload.json_length;
    let mut reply = Response::new(whole(answer.payload.body));
    *reply.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = reply.headers_mut();
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    if let Some(length) = length {
        headers.insert(HEADER_LENGTH.clone(), length.into());
    }
    reply
}

fn failed<B>(status: u16, body: B) -> Response<B> {
    let mut reply = Response::new(body);
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    reply.headers_mut().insert(CONTENT_TYPE, JSON);
    reply
}

/// Runs a graph, which may be a step of another one.
///
/// # Errors
/// If there is no answer of a step to give.
pub async fn run(flow: &Flow, asked: Asked, steps: &impl Steps) -> Outcome {
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
        steps,
        headers,
    };
    run.node(flow.graph.root, asked.payload, asked.trail).await
}

/// The headers of a step: those that go to every step, and what its body is.
#[must_use]
pub fn headers_of(call: &Call<'_>) -> HeaderMap {
    let mut headers = call.headers.clone();
    if let Some(length) = call.input.json_length {
        headers.insert(HEADER_LENGTH.clone(), length.into());
        headers.insert(CONTENT_TYPE, OCTETS);
    } else if !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, JSON);
    }
    headers
}

/// How a step or a node ended.
pub type Outcome = Result<Answer, Stopped>;
/// The same, to come.
pub type Boxed<'r> = Pin<Box<dyn Future<Output = Outcome> + Send + 'r>>;

struct Run<'r, S> {
    flow: &'r Flow,
    steps: &'r S,
    /// What every step is sent.
    headers: HeaderMap,
}

impl<S: Steps> Run<'_, S> {
    fn node(&self, index: usize, request: Payload, trail: Trail) -> Boxed<'_> {
        Box::pin(async move {
            let Some(node) = self.flow.graph.nodes.get(index) else {
                return Err(Stopped::Cause(format!("the graph has no node {index}")));
            };
            trail.enter(node)?;
            match &node.router {
                Router::Sequence => self.sequence(node, &request, &trail).await,
                Router::Switch => self.step(node.choose(&request)?, request, &trail).await,
                Router::Splitter => {
                    let turn = self.flow.shares.get(index).and_then(|s| s.lock().turn());
                    match turn.and_then(|turn| node.steps.get(turn)) {
                        Some(step) => self.step(step, request, &trail).await,
                        None => Err(no_steps(node)),
                    }
                }
                Router::Ensemble => {
                    let steps = node.steps.iter();
                    let steps = steps.map(|step| self.step(step, request.clone(), &trail));
                    node.merge(&all(steps.collect()).await?)
                }
                Router::Unknown(name) => Err(Stopped::Cause(format!("invalid route type: {name}"))),
            }
        })
    }

    async fn sequence(&self, node: &Node, request: &Payload, trail: &Trail) -> Outcome {
        let mut previous: Option<Answer> = None;
        for step in &node.steps {
            if step.before(previous.as_ref())? == Before::End {
                break;
            }
            let input = step.input(request, previous.as_ref());
            let answer = self.step(step, input, trail).await?;
            if step.hard && !answer.is_success() {
                return Ok(answer);
            }
            previous = Some(answer);
        }
        previous.ok_or_else(|| no_steps(node))
    }

    fn step<'s>(&'s self, step: &'s Step, input: Payload, trail: &'s Trail) -> Boxed<'s> {
        match &step.target {
            Target::Node(index) => self.node(*index, input, trail.below()),
            Target::Unusable(why) => Box::pin(async move { Err(Stopped::Cause(why.clone())) }),
            target => Box::pin(async move {
                let call = self.steps.ask(Call {
                    target,
                    headers: &self.headers,
                    input,
                    trail,
                });
                let limit = self.flow.graph.step_timeout_secs;
                match limit.map(Duration::from_secs_f64) {
                    None => call.await,
                    Some(limit) => tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
                        let limit = limit.as_secs_f64();
                        Err(Stopped::Cause(format!(
                            "{target} gave no answer within {limit} s"
                        )))
                    }),
                }
            }),
        }
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
