// SPDX-License-Identifier: Apache-2.0
//! Ports that clouds expect of a container: other paths to routes that there are (`spec/triton.md` 9.4, 9.5).

use hyper::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};
use serde::Deserialize;

use super::{Ask, Route, Target};
use crate::door::Protocol;

const TARGET_MODEL: &str = "x-amzn-sagemaker-target-model";

/// The model that SageMaker means, where it says so.
pub fn target_model(headers: &HeaderMap) -> Option<&str> {
    headers.get(TARGET_MODEL)?.to_str().ok()
}

/// A model as SageMaker names it: by a hash of its own, and perhaps by the name that it has here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hosted<'a> {
    /// What stands in the path.
    pub hash: &'a str,
    /// What stands in the header.
    pub target: Option<&'a str>,
}

impl<'a> Hosted<'a> {
    /// The model's name here.
    #[must_use]
    pub fn model(&self) -> &'a str {
        self.target.unwrap_or(self.hash)
    }
}
const REDIRECT: &str = "x-vertex-ai-triton-redirect";

/// Whose habits an answer follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Those of the v2 protocol.
    #[default]
    Triton,
    /// Amazon SageMaker.
    SageMaker,
    /// Google Vertex AI.
    VertexAi,
}

/// What a call of SageMaker's invocations is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Invocation {
    #[default]
    Infer,
    Generate,
    GenerateStream,
}

impl Invocation {
    const fn route(self, target: Target<'_>) -> Route<'_> {
        match self {
            Self::Infer => Route::ModelInfer(target),
            Self::Generate => Route::Generate(target),
            Self::GenerateStream => Route::GenerateStream(target),
        }
    }
}

/// The port of SageMaker.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SageMaker {
    /// The model of invocations.
    pub default_model: String,
    /// A ping asks whether the server lives rather than whether it is ready.
    pub ping_live: bool,
    /// What an invocation is.
    pub invocation: Invocation,
}

impl SageMaker {
    fn route<'a>(&'a self, path: &'a str, headers: &'a HeaderMap) -> Option<Route<'a>> {
        match path {
            "/ping" if self.ping_live => return Some(Route::ServerLive),
            "/ping" => return Some(Route::ServerReady),
            "/invocations" => return Some(self.invocation.route(whole(&self.default_model))),
            "/models" => return Some(Route::SageMakerModels(None)),
            _ => {}
        }
        let model = path.strip_prefix("/models/")?;
        let (given, invoked) = match model.strip_suffix("/invoke") {
            Some(given) => (given, true),
            None => (model, false),
        };
        if given.is_empty() || given.contains('/') {
            return None;
        }
        let hosted = Hosted {
            hash: given,
            target: target_model(headers),
        };
        Some(match invoked {
            true => self.invocation.route(whole(hosted.model())),
            false => Route::SageMakerModels(Some(hosted)),
        })
    }
}

/// The port of Vertex AI.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VertexAi {
    /// The path of predictions.
    pub predict_route: String,
    /// The path of the health check.
    pub health_route: String,
    /// The model of predictions.
    pub default_model: String,
}

impl VertexAi {
    fn door<'a>(&'a self, path: &'a str, head: &'a Parts) -> Door<'a> {
        if path == self.health_route {
            return Door::of(Some(Route::ServerReady), head);
        }
        if path != self.predict_route {
            return Door::of(None, head);
        }
        let Some(redirect) = head.headers.get(REDIRECT) else {
            return Door::of(Some(Route::ModelInfer(whole(&self.default_model))), head);
        };
        let to = redirect.to_str().unwrap_or_default();
        let to = to.split_once('?').map_or(to, |(path, _)| path);
        let route = match to {
            "metrics" => Some(Route::Metrics),
            to => to.strip_prefix("v2").and_then(Route::of_v2),
        };
        // The method is always POST, so it does not tell whether something is set: a body does.
        let has_body = head.headers.contains_key(TRANSFER_ENCODING)
            || head.headers.get(CONTENT_LENGTH).is_some_and(|n| n != "0");
        let sets = route.is_some_and(|route| route.is_setting() && has_body);
        let posts = route.is_some_and(|route| route.method() == "POST");
        Door {
            route,
            writes: sets || posts,
            answers: head.method == Method::POST,
            closed: route.is_some_and(|route| {
                matches!(
                    route,
                    Route::SharedMemory(_, Ask::Register | Ask::Unregister, _)
                        | Route::RepositoryModel(..)
                )
            }),
            dialect: Dialect::VertexAi,
        }
    }
}

const fn whole(name: &str) -> Target<'_> {
    Target {
        name,
        version: None,
    }
}

/// The doors besides Triton's own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Doors {
    pub sagemaker: SageMaker,
    pub vertex_ai: VertexAi,
}

/// Where a request leads.
pub(super) struct Door<'a> {
    pub route: Option<Route<'a>>,
    /// Whether the method is another than GET.
    pub writes: bool,
    /// Whether the route answers to the method.
    pub answers: bool,
    /// Whether this door leads there for nobody.
    pub closed: bool,
    pub dialect: Dialect,
}

impl<'a> Door<'a> {
    fn of(route: Option<Route<'a>>, head: &Parts) -> Self {
        Self {
            route,
            writes: head.method != Method::GET,
            answers: route.is_some_and(|route| route.answers_to(head.method.as_str())),
            closed: false,
            dialect: Dialect::Triton,
        }
    }
}

impl Doors {
    /// Where a request leads on a port.
    pub(super) fn door<'a>(&'a self, head: &'a Parts, protocol: Protocol) -> Door<'a> {
        let path = head.uri.path();
        match protocol {
            Protocol::Metrics => Door::of(Route::of_metrics(path), head),
            Protocol::Http | Protocol::Grpc => {
                let route = Route::of(path).map(|route| route.by(&head.method));
                Door::of(route, head)
            }
            Protocol::SageMaker => Door {
                dialect: Dialect::SageMaker,
                ..Door::of(self.sagemaker.route(path, &head.headers), head)
            },
            Protocol::VertexAi => Door {
                dialect: Dialect::VertexAi,
                ..self.vertex_ai.door(path, head)
            },
        }
    }
}
