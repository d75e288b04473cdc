// SPDX-License-Identifier: Apache-2.0
//! One request: to the component it is for, and its answer back.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, EXPECT, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use nerite_logic::gateway::failure::{Failure, Kind};
use nerite_logic::gateway::headers::host_of;
use nerite_logic::gateway::table::Found;

use super::bodies::Reply;
use super::forward::forward;
use super::graph::Components;
use super::live::{Component, Live};
use super::outgoing::{Fate, Outgoing};
use super::shared::Shared;
use super::speech::Speech;
use super::told::{Tap, Told};
use super::{batcher, failures, hops};
use crate::graph::{self, Asked};
use crate::reading::{Align, Pace, Reading, UNWANTED, Unreadable, discard, read};
use crate::reply::SEVERAL_HOSTS;

/// Where a request came in.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The client's address, as a header says it: made once for all requests of a connection.
    pub peer: HeaderValue,
    /// The host that its port stands for, if it stands for one; then the request's own does not count.
    pub named: Option<Arc<str>>,
}

/// Answers one request; never fails, every failure is an answer.
///
/// # Errors
/// None.
pub async fn answer(
    request: Request<Incoming>,
    origin: &Origin,
    shared: &Arc<Shared>,
) -> Result<Response<Reply>, Infallible> {
    shared.counters.requests.fetch_add(1, Ordering::Relaxed);
    let speech = speech_of(request.headers());
    let (head, body) = request.into_parts();
    let mut left = Left::of(&head, body);
    let answered = route(head, &mut left, speech, origin, shared).await;
    let failure = match answered {
        Ok(reply) => return Ok(reply),
        Err(failure) => failure,
    };
    shared.counters.failures.fetch_add(1, Ordering::Relaxed);
    if speech == Speech::Grpc {
        return Ok(failures::over_grpc(&failure));
    }
    // A body that came too slowly is not waited for again.
    let reusable =
        failure.kind != Kind::TooSlow && left.is_passed(shared.options.arrival_timeout()).await;
    Ok(failures::over_http(&failure, reusable))
}

/// What is left of a request's body when it is answered by the gateway itself.
struct Left {
    body: Option<Incoming>,
    /// All of it was read.
    whole: bool,
    /// Its client sends it only when it is told to.
    waits: bool,
    /// The connection stays whatever becomes of the body.
    apart: bool,
}

impl Left {
    fn of(head: &Parts, body: Incoming) -> Self {
        Self {
            whole: body.is_end_stream(),
            body: Some(body),
            waits: head.headers.contains_key(EXPECT),
            apart: head.version == Version::HTTP_2,
        }
    }

    /// Goes behind the body; whether the connection can be used again. hyper would close it while the client
    /// still writes, which would then see a broken connection and no answer.
    async fn is_passed(&mut self, patience: Duration) -> bool {
        if self.whole || self.apart {
            return true;
        }
        match &mut self.body {
            Some(body) if !self.waits => discard(body, UNWANTED, patience).await,
            _ => false,
        }
    }
}

fn speech_of(headers: &HeaderMap) -> Speech {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    match content_type.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        true => Speech::Grpc,
        false => Speech::Http,
    }
}

async fn route(
    mut head: Parts,
    left: &mut Left,
    speech: Speech,
    origin: &Origin,
    shared: &Arc<Shared>,
) -> Result<Response<Reply>, Failure> {
    let live = shared.live.load_full();
    let authority = authority_of(&head)?;
    let asked = authority.to_str().unwrap_or_default();
    let host = origin.named.as_deref().unwrap_or(host_of(asked));
    let found = live.table.find(host, head.uri.path())?;
    let Some(component) = live.component(found.place) else {
        return Err(Failure::new(Kind::Internal, "the route leads nowhere"));
    };
    let limit = match speech {
        Speech::Http => shared.options.max_request_bytes,
        Speech::Grpc => usize::MAX,
    };
    let length = left.body.as_ref().and_then(|body| body.size_hint().exact());
    if let Some(length) = length.filter(|length| *length > limit as u64) {
        return Err(too_large(component, Some(length), limit));
    }
    if hops::asks_for_websocket(&head.headers) {
        let text = "WebSocket connections do not pass the gateway; open them to the component's own \
            address, which `nerite get isvc -o wide` shows";
        return Err(component.failure(Kind::Unsupported, text));
    }
    hops::strip(&mut head.headers);
    hops::tell_origin(&mut head.headers, &origin.peer, &authority, found.prefix);
    let errand = Errand {
        live: &live,
        component,
        shared,
        limit,
        told: component
            .sink
            .as_ref()
            .filter(|_| is_told(speech, &head.method))
            .map(|sink| Told::of(sink, &head.headers, &shared.payload_log)),
    };
    let collected = component
        .collects(&head.method, found.path)
        .then(|| found.path.to_owned());
    head.uri = next_uri(&head.uri, &found, speech, asked)?;
    match speech {
        Speech::Http => hops::set_host(&mut head.headers, &authority),
        Speech::Grpc => _ = head.headers.remove(HOST),
    }
    head.version = Version::HTTP_11;
    let reply = match collected {
        Some(path) => errand.combined(speech, &path, head, left).await?,
        None => errand.passed_through(speech, head, left).await?,
    };
    Ok(errand.tapped(reply))
}

/// Whether requests of this kind are told to a sink: probes and questions about a model are not.
fn is_told(speech: Speech, method: &Method) -> bool {
    speech == Speech::Http && !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// A request that has found its component.
struct Errand<'r> {
    live: &'r Live,
    component: &'r Arc<Component>,
    shared: &'r Arc<Shared>,
    limit: usize,
    told: Option<Told>,
}

impl Errand<'_> {
    /// The component gets the body as it comes.
    async fn passed_through(
        &self,
        speech: Speech,
        head: Parts,
        left: &mut Left,
    ) -> Result<Response<Reply>, Failure> {
        let Some(body) = left.body.take() else {
            return Err(self.component.failure(Kind::Internal, "the body is gone"));
        };
        let fate = Arc::new(Fate::default());
        let tap = self.request_tap(&head.headers);
        let patience = self.shared.options.arrival_timeout();
        // A call may rest between its messages for as long as both sides like.
        let pace = (speech == Speech::Http).then(|| Pace::new(patience));
        let bounds = (self.limit as u64, pace);
        let body = Outgoing::passing(body, bounds, Arc::clone(&fate), tap);
        let request = Request::from_parts(head, body);
        let sent = forward(self.component, speech, request, self.shared).await;
        sent.inspect_err(|_| {
            left.whole = fate.is_whole();
            left.body = fate.rest();
        })
        .map_err(|failure| match () {
            () if fate.is_overrun() => too_large(self.component, None, self.limit),
            () if fate.is_broken() => self.unreadable(&Unreadable::Broken),
            () if fate.is_slow() => self.unreadable(&Unreadable::TooSlow),
            () => failure,
        })
    }

    /// The answer is made of what others answer, for which the whole body must be there.
    async fn combined(
        &self,
        speech: Speech,
        path: &str,
        head: Parts,
        left: &mut Left,
    ) -> Result<Response<Reply>, Failure> {
        let Some(body) = &mut left.body else {
            return Err(self.component.failure(Kind::Internal, "the body is gone"));
        };
        if speech == Speech::Grpc {
            let text = "it is made of the answers of others and asked over HTTP only: send it JSON with POST, \
                or call the services of its steps over gRPC";
            return Err(self.component.failure(Kind::Unsupported, text));
        }
        let how = Reading {
            limit: self.limit,
            align: Align::At(0),
            patience: self.shared.options.arrival_timeout(),
        };
        let body = read(body, how).await.map_err(|why| self.unreadable(&why))?;
        left.whole = true;
        if let Some(mut tap) = self.request_tap(&head.headers) {
            tap.see(&body);
            tap.end();
        }
        if let Some(batcher) = &self.component.batcher {
            return match batcher::part(self.component, &body)? {
                Some(part) => {
                    batcher::predict(self.component, batcher, path, part, self.shared).await
                }
                None => {
                    let request = Request::from_parts(head, Outgoing::whole(body));
                    forward(self.component, speech, request, self.shared).await
                }
            };
        }
        let Some(flow) = &self.component.flow else {
            return Err(self
                .component
                .failure(Kind::Internal, "there is nothing to combine"));
        };
        if path == graph::READY {
            return Ok(Response::new(Reply::Whole(None)));
        }
        let asked = Asked::of(head.headers, body);
        let steps = Components {
            live: self.live,
            shared: self.shared,
        };
        let answered = graph::answer(flow, asked, &steps, Reply::whole).await;
        answered.map_err(|late| self.component.failure(Kind::Late, &late.to_string()))
    }

    fn request_tap(&self, headers: &HeaderMap) -> Option<Tap> {
        self.told.as_ref()?.request(headers, self.limit)
    }

    /// The answer, with a tap on its body if it is told; as in KServe, only successes are.
    fn tapped(&self, reply: Response<Reply>) -> Response<Reply> {
        let told = self
            .told
            .as_ref()
            .filter(|_| reply.status() == StatusCode::OK);
        let tap = told.and_then(|told| told.response(reply.headers(), self.limit));
        match tap {
            None => reply,
            tap => reply.map(|body| body.tapped(tap)),
        }
    }

    fn unreadable(&self, why: &Unreadable) -> Failure {
        match why {
            Unreadable::TooLong(length) => too_large(self.component, *length, self.limit),
            Unreadable::TooSlow => {
                let text = "the request body stopped coming, or came too slowly";
                self.component.failure(Kind::TooSlow, text)
            }
            Unreadable::Broken => {
                let text = "the request body broke off, or its framing is wrong";
                self.component.failure(Kind::BadRequest, text)
            }
        }
    }
}

fn too_large(component: &Component, length: Option<u64>, limit: usize) -> Failure {
    let length = length.map_or_else(|| "more".into(), |length| format!("{length} bytes, more"));
    let text =
        format!("the request body has {length} than the {limit} bytes that pass the gateway");
    component.failure(Kind::TooLarge, &text)
}

/// The name by which the client asked, port included; what the target says counts before `Host` (RFC 9112, 3.2).
/// It is empty if HTTP/1.0 or HTTP/2 said none.
fn authority_of(head: &Parts) -> Result<HeaderValue, Failure> {
    let wrong = |text: &str| Err(Failure::new(Kind::BadRequest, text));
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return wrong(SEVERAL_HOSTS),
        (None, None) if head.version == Version::HTTP_11 => {
            return wrong("the request has no Host header; HTTP/1.1 asks for one");
        }
        (Some(host), None) if host.to_str().is_err() => {
            return wrong("the request's Host header is not the name of a host");
        }
        (host, None) => host,
    };
    let named = head.uri.authority();
    let named = named.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    Ok(named
        .or_else(|| host.cloned())
        .unwrap_or_else(|| HeaderValue::from_static("")))
}

/// What the component is asked for: a path over HTTP/1.1, a whole URI over HTTP/2.
fn next_uri(uri: &Uri, found: &Found<'_>, speech: Speech, authority: &str) -> Result<Uri, Failure> {
    let whole = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let rest = whole.get(found.prefix.len()..).unwrap_or(whole);
    let unusable = |_| Failure::new(Kind::BadRequest, format!("the path '{rest}' is not usable"));
    let path = match (found.prefix.is_empty(), rest.starts_with('/')) {
        (true, _) => uri
            .path_and_query()
            .cloned()
            .map_or_else(|| "/".parse(), Ok),
        (false, true) => PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(rest.as_bytes())),
        (false, false) => format!("/{rest}").parse(),
    };
    let path = path.map_err(|why| unusable(why.into()))?;
    match speech {
        Speech::Http => Ok(Uri::from(path)),
        Speech::Grpc => Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(if authority.is_empty() {
                "localhost"
            } else {
                authority
            })
            .path_and_query(path)
            .build()
            .map_err(unusable),
    }
}
