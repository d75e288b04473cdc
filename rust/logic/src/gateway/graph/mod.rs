// SPDX-License-Identifier: Apache-2.0
//! InferenceGraphs: what the next step is asked, whether there is one, and what comes of the answers.
//!
//! The rules are those of KServe's router (`spec/kserve.md` 1.13 and 10), but for what is evidently wrong
//! there: numbers pass as they are written, a switch without match is 404 however deep it lies, no result
//! of an ensemble is lost, a node without steps is an error that says so.

mod reading;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::condition::{Document, holds};
use super::payload::{self, Payload};

/// The node where a graph begins.
pub const ROOT: &str = "root";
/// What a router answers when no condition of a switch holds.
pub const NO_MATCH: &str = "None of the routes matched with the switch condition";

/// A graph, ready to run.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// Where it begins.
    pub root: usize,
    /// Seconds until the whole must be done.
    pub timeout_secs: Option<f64>,
    /// Seconds that one step may take.
    pub step_timeout_secs: Option<f64>,
    /// Regular expressions of the headers that steps are sent.
    pub propagate_headers: Vec<String>,
}

/// What a node does with its steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Router {
    /// One after the other.
    Sequence,
    /// One of them, by weight.
    Splitter,
    /// The first whose condition holds.
    Switch,
    /// All at once, their answers in one.
    Ensemble,
    /// Nothing: KServe has no such type.
    Unknown(String),
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it does.
    pub router: Router,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// A step.
#[derive(Clone, Debug)]
pub struct Step {
    /// The key of its answer in an ensemble.
    pub key: String,
    /// Whom it asks.
    pub target: Target,
    /// It gets the answer before it, not the request.
    from_response: bool,
    /// `predictions` become `instances`.
    map_predictions: bool,
    /// Its share in a splitter.
    pub weight: u32,
    condition: Option<String>,
    /// Its failure is the graph's.
    pub hard: bool,
}

/// Whom a step asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Another node.
    Node(usize),
    /// A service.
    Url {
        /// It is asked over TLS.
        tls: bool,
        /// Host and port as they are written.
        authority: String,
        /// Path and query.
        path: String,
    },
    /// A path of the server that runs the graph.
    Path(String),
    /// Nobody: the reason.
    Unusable(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(index) => write!(f, "node {index}"),
            Self::Url {
                tls,
                authority,
                path,
            } => {
                let scheme = if *tls { "https" } else { "http" };
                write!(f, "{scheme}://{authority}{path}")
            }
            Self::Path(path) => f.write_str(path),
            Self::Unusable(_) => f.write_str("a URL that is not usable"),
        }
    }
}

/// What one step, node or graph answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub payload: Payload,
}

impl Answer {
    /// Whether the step did what it was asked.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }
}

/// Why a graph has no answer of its steps to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// No condition of a switch held.
    NoMatch,
    /// Anything else.
    Cause(String),
}

/// What comes before a step of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It is asked.
    Ask,
    /// The sequence ends with the answer so far, and that is a success.
    End,
}

impl Step {
    /// Whether the step of a sequence is asked after `previous`.
    ///
    /// # Errors
    /// If it has a condition and there is no JSON to test it on.
    pub fn before(&self, previous: Option<&Answer>) -> Result<Before, Stopped> {
        let Some(condition) = &self.condition else {
            return Ok(Before::Ask);
        };
        let body = previous.map_or(&b""[..], |previous| previous.payload.json());
        let document =
            Document::parse(body).map_err(|_| Stopped::Cause("invalid response".into()))?;
        Ok(match holds(&document, condition) {
            true => Before::Ask,
            false => Before::End,
        })
    }

    /// What the step of a sequence is asked.
    #[must_use]
    pub fn input(&self, request: &Payload, previous: Option<&Answer>) -> Payload {
        let chosen = match previous {
            Some(answer) if self.from_response => &answer.payload,
            _ => request,
        };
        let mapped = match self.map_predictions {
            true => payload::predictions_to_instances(chosen),
            false => None,
        };
        if mapped.is_none() && self.from_response && previous.is_some() && self.speaks_v2() {
            return payload::outputs_to_inputs(chosen).unwrap_or_else(|| chosen.clone());
        }
        mapped.unwrap_or_else(|| chosen.clone())
    }

    fn speaks_v2(&self) -> bool {
        match &self.target {
            Target::Url { path, .. } | Target::Path(path) => {
                let path = path.split('?').next().unwrap_or_default();
                path.contains("/v2/models/") && path.ends_with("/infer")
            }
            _ => false,
        }
    }
}

impl Node {
    /// The step of a switch that a request takes.
    ///
    /// # Errors
    /// [`Stopped::NoMatch`].
    pub fn choose(&self, request: &Payload) -> Result<&Step, Stopped> {
        let document = Document::parse(request.json()).map_err(|_| Stopped::NoMatch)?;
        let taken = |step: &&Step| {
            step.condition
                .as_deref()
                .is_some_and(|c| holds(&document, c))
        };
        self.steps.iter().find(taken).ok_or(Stopped::NoMatch)
    }

    /// The answer of an ensemble, from those of its steps in their order.
    ///
    /// # Errors
    /// If one is no JSON object.
    pub fn merge(&self, answers: &[Answer]) -> Result<Answer, Stopped> {
        let mut merged = BTreeMap::new();
        for (step, answer) in self.steps.iter().zip(answers) {
            if answer.payload.json_length.is_some() {
                let text = format!(
                    "step \"{}\" answers with raw tensors, which an ensemble cannot hold; ask for JSON",
                    step.key
                );
                return Err(Stopped::Cause(text));
            }
            let body = answer.payload.json();
            payload::check_object(body).map_err(|why| {
                let text = format!(
                    "the answer of step \"{}\" is no JSON object: {why}",
                    step.key
                );
                Stopped::Cause(text)
            })?;
            if step.hard && !answer.is_success() {
                return Ok(answer.clone());
            }
            merged.insert(step.key.as_str(), body);
        }
        Ok(Answer {
            status: 200,
            payload: Payload::of_json(payload::object_of(&merged)),
        })
    }
}

/// The body of an answer that a graph gives itself.
#[must_use]
pub fn cause(text: &str) -> Bytes {
    let cause = serde_json::Value::from(text);
    format!(r#"{{"error":"Failed to process request","cause":{cause}}}"#).into()
}

/// The SHA-256 of a definition, as hexadecimal digits.
#[must_use]
pub fn digest(written: &[u8]) -> String {
    let bytes = Sha256::digest(written);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
