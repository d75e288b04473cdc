// SPDX-License-Identifier: Apache-2.0
//! The paths of InferenceGraphs, and the paths that their steps may ask.

use hyper::Method;

use super::{Route, V1};
use crate::graph::READY;

/// Where graphs lie.
const GRAPHS: &str = "/graphs";
/// The namespace of a graph in whose path none stands.
pub const NAMESPACE: &str = "default";

/// A graph in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What follows: a graph answers any path below its own.
    below: &'a str,
}

impl Named<'_> {
    /// Whether the path goes on behind the graph's own.
    pub(super) const fn is_below(self) -> bool {
        !self.below.is_empty()
    }
}

impl<'a> Route<'a> {
    /// The route of a path of graphs: `/graphs/name` is one of the default namespace, longer paths begin
    /// with a namespace and a name.
    pub(super) fn of_graphs(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix(GRAPHS)?;
        if rest.is_empty() {
            return Some(Self::Graphs);
        }
        let rest = rest.strip_prefix('/')?;
        let (namespace, rest) = rest.split_once('/').unwrap_or((NAMESPACE, rest));
        let (name, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let named = Named {
            namespace,
            name,
            below,
        };
        (!namespace.is_empty() && !name.is_empty()).then_some(Self::Graph(named))
    }

    /// The same, once the method is known. A graph is changed at its own path and nowhere below, so what
    /// passes a gateway, which puts a path behind it, never changes one.
    pub(super) fn by(self, method: &Method) -> Self {
        match self {
            Self::Graph(named) if named.below == READY => Self::GraphReady(named),
            Self::Graph(named)
                if named.below.is_empty() && matches!(*method, Method::PUT | Method::DELETE) =>
            {
                Self::GraphChange(named)
            }
            other => other,
        }
    }

    /// What the path of a step asks of the server that runs its graph: V1 predict, V2 infer, or a graph.
    /// Whoever asks the graph must be admitted for the models of all its steps.
    #[must_use]
    pub fn of_step(path: &'a str) -> Option<Self> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        Self::of(path).filter(|route| {
            matches!(
                route,
                Self::ModelInfer(_) | Self::V1(V1::Predict(_)) | Self::Graph(_)
            )
        })
    }
}
