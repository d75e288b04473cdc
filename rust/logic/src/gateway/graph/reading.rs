// SPDX-License-Identifier: Apache-2.0
//! Reading a graph: names become places, URLs are taken apart, each answer gets its key.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Graph, Node, ROOT, Router, Step, Target};
use crate::Error;

/// A graph as it is written: the `spec` of the resource, its services turned into URLs.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    nodes: BTreeMap<String, Value>,
    #[serde(default)]
    timeout_secs: Option<f64>,
    #[serde(default)]
    step_timeout_secs: Option<f64>,
    #[serde(default)]
    propagate_headers: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenNode {
    router_type: String,
    #[serde(default)]
    steps: Vec<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenStep {
    #[serde(default)]
    name: String,
    #[serde(default)]
    node_name: String,
    #[serde(default)]
    service_url: String,
    #[serde(default)]
    data: String,
    #[serde(default)]
    map_predictions_to_instances: bool,
    #[serde(default)]
    weight: u32,
    #[serde(default)]
    condition: String,
    #[serde(default)]
    dependency: String,
}

impl Graph {
    /// Reads a graph.
    ///
    /// # Errors
    /// If it is no graph, has no root, or names nodes that it does not have.
    pub fn from_value(value: Value) -> Result<Self, Error> {
        let written: Written = read(value, || "the graph".into())?;
        let names: Vec<&String> = written.nodes.keys().collect();
        let place = |name: &str| {
            let found = names.iter().position(|known| *known == name);
            found.ok_or_else(|| Error::invalid(format!("the graph has no node '{name}'")))
        };
        let nodes = written.nodes.iter().map(|(name, node)| {
            let node: WrittenNode = read(node.clone(), || format!("node '{name}' of the graph"))?;
            Ok(Node {
                name: name.clone(),
                router: router(&node.router_type),
                steps: steps(name, node.steps, &place)?,
            })
        });
        for (name, seconds) in [
            ("timeoutSecs", written.timeout_secs),
            ("stepTimeoutSecs", written.step_timeout_secs),
        ] {
            if let Some(seconds) = seconds
                && !(seconds > 0.0 && seconds < 1e9)
            {
                let text = format!("the graph's {name} is {seconds}, expected seconds > 0");
                return Err(Error::invalid(text));
            }
        }
        Ok(Self {
            nodes: nodes.collect::<Result<_, Error>>()?,
            root: place(ROOT)?,
            timeout_secs: written.timeout_secs,
            step_timeout_secs: written.step_timeout_secs,
            propagate_headers: written.propagate_headers,
        })
    }
}

fn router(name: &str) -> Router {
    match name {
        "Sequence" => Router::Sequence,
        "Splitter" => Router::Splitter,
        "Switch" => Router::Switch,
        "Ensemble" => Router::Ensemble,
        other => Router::Unknown(other.into()),
    }
}

/// Reads a part of a graph; `what` names it.
fn read<T: DeserializeOwned>(value: Value, what: impl Fn() -> String) -> Result<T, Error> {
    let wrong = |why: &str| Error::invalid(format!("{} is not usable: {why}", what()));
    // A list would be read as the members in their order.
    if !value.is_object() {
        let kind = match value {
            Value::Array(_) => "a list",
            Value::String(_) => "a text",
            Value::Number(_) => "a number",
            Value::Bool(_) => "a truth value",
            _ => "null",
        };
        return Err(wrong(&format!("it is {kind}, expected an object")));
    }
    serde_json::from_value(value).map_err(|why| wrong(&why.to_string()))
}

fn steps(
    node: &str,
    written: Vec<Value>,
    place: &impl Fn(&str) -> Result<usize, Error>,
) -> Result<Vec<Step>, Error> {
    let written = written.into_iter().enumerate().map(|(index, step)| {
        read(step, || {
            format!("step {index} of node '{node}' of the graph")
        })
    });
    let written: Vec<WrittenStep> = written.collect::<Result<_, Error>>()?;
    let keys = keys(&written);
    let made = written.iter().zip(keys).map(|(step, key)| {
        Ok(Step {
            key,
            target: match step.node_name.as_str() {
                "" => url(&step.service_url),
                name => Target::Node(place(name)?),
            },
            from_response: step.data == "$response",
            map_predictions: step.map_predictions_to_instances,
            weight: step.weight,
            condition: (!step.condition.is_empty()).then(|| step.condition.clone()),
            hard: step.dependency == "Hard",
        })
    });
    made.collect()
}

/// The key of each step: its name, or its index, or the next number that no other step has.
fn keys(steps: &[WrittenStep]) -> Vec<String> {
    let mut taken: Vec<String> = steps.iter().map(|step| step.name.clone()).collect();
    let mut keys = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let key = match step.name.as_str() {
            "" => (index..)
                .map(|number| number.to_string())
                .find(|number| !taken.contains(number))
                .unwrap_or_default(),
            name => name.into(),
        };
        taken.push(key.clone());
        keys.push(key);
    }
    keys
}

fn url(written: &str) -> Target {
    if written.starts_with('/') && !written.starts_with("//") {
        return Target::Path(written.into());
    }
    let unusable = |why: &str| Target::Unusable(format!("the URL \"{written}\" {why}"));
    let (tls, rest) = match written.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        _ => return unusable("has no usable scheme; write http:// or https://"),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || authority.contains('[') != authority.contains(']') {
        return unusable("has no usable host");
    }
    let path = path.split('#').next().unwrap_or_default();
    Target::Url {
        tls,
        authority: authority.into(),
        path: match path.starts_with('/') {
            true => path.into(),
            false => format!("/{path}"),
        },
    }
}
