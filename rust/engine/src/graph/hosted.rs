// SPDX-License-Identifier: Apache-2.0
//! The graphs that a server runs itself, and what their routes answer.
//!
//! The table is replaced as a whole; a request keeps the one it began with, also for graphs within graphs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use nerite_logic::Error;
use nerite_logic::gateway::graph::{Node, Step, Target as Place, digest};
use parking_lot::Mutex;
use serde::Serialize;

use super::Flow;
use crate::gateway::upstream::Reach;
use crate::routes::guard::Sight;
use crate::routes::{NAMESPACE, Named, Route, V1};

/// How long somebody else may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// The graphs of a server, and how their steps reach others.
#[derive(Debug)]
pub struct Graphs {
    pub(super) table: ArcSwap<Hosted>,
    /// Held while the table is replaced, so that two replacements do not undo each other.
    changing: Mutex<()>,
    /// How steps that name a URL are asked.
    pub reach: Reach,
}

impl Default for Graphs {
    fn default() -> Self {
        Self {
            table: ArcSwap::default(),
            changing: Mutex::new(()),
            reach: Reach::new(PATIENCE),
        }
    }
}

/// One state of the table: namespace, name, graph.
#[derive(Clone, Debug, Default)]
pub struct Hosted(BTreeMap<String, BTreeMap<String, Arc<OwnGraph>>>);

/// A graph that a server runs.
#[derive(Debug)]
pub struct OwnGraph {
    /// What it does.
    pub flow: Flow,
    /// SHA-256 of its definition.
    pub digest: String,
}

/// A graph as it is told of.
#[derive(Debug, Serialize)]
pub struct Told {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// SHA-256 of its definition, as hexadecimal digits.
    pub digest: String,
}

impl Graphs {
    /// Makes a graph the one of its name; whether there was another one.
    ///
    /// # Errors
    /// If the definition is none.
    pub fn put(&self, namespace: &str, name: &str, written: &[u8]) -> Result<bool, Error> {
        for (what, text) in [("namespace", namespace), ("name", name)] {
            if text.is_empty() || text.contains(['/', '?', '#']) {
                return Err(Error::invalid(format!(
                    "the graph's {what} is '{text}', expected one part of a path"
                )));
            }
        }
        let of = |why: &str| Error::invalid(format!("graph '{namespace}/{name}': {why}"));
        let value = serde_json::from_slice(written)
            .map_err(|why| of(&format!("its definition is not JSON: {why}")))?;
        let graph = OwnGraph {
            flow: Flow::new(value).map_err(|why| of(&why.message))?,
            digest: digest(written),
        };
        let _changing = self.changing.lock();
        let mut table = Hosted::clone(&self.table.load());
        let graphs = table.0.entry(namespace.to_owned()).or_default();
        let before = graphs.insert(name.to_owned(), Arc::new(graph));
        self.table.store(Arc::new(table));
        Ok(before.is_some())
    }

    /// Takes a graph out; whether it was there.
    pub fn remove(&self, namespace: &str, name: &str) -> bool {
        let _changing = self.changing.lock();
        let mut table = Hosted::clone(&self.table.load());
        let Some(graphs) = table.0.get_mut(namespace) else {
            return false;
        };
        let removed = graphs.remove(name).is_some();
        if graphs.is_empty() {
            table.0.remove(namespace);
        }
        self.table.store(Arc::new(table));
        removed
    }

    /// All graphs.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        self.table.load().told(|_| true)
    }

    /// Those of which somebody may ask every model.
    pub fn seen(&self, sight: Sight<'_>) -> Vec<Told> {
        let table = self.table.load();
        table.told(|graph| sight.is_whole() || table.admits(graph, sight).is_ok())
    }

    /// Connections to others that steps have opened.
    pub fn opened(&self) -> u64 {
        self.reach.opened.load(Ordering::Relaxed)
    }
}

impl Hosted {
    /// A graph.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub fn find(&self, named: Named<'_>) -> Result<&Arc<OwnGraph>, Error> {
        let graphs = self.0.get(named.namespace);
        graphs
            .and_then(|graphs| graphs.get(named.name))
            .ok_or_else(|| self.unknown(named))
    }

    pub(super) fn unknown(&self, named: Named<'_>) -> Error {
        let (namespace, name) = (named.namespace, named.name);
        let graphs = self.0.get(NAMESPACE);
        let hint = match graphs.is_some_and(|graphs| graphs.contains_key(namespace)) {
            true => format!(
                "paths below graph '{NAMESPACE}/{namespace}' begin with /graphs/{NAMESPACE}/{namespace}/"
            ),
            false => "GET /graphs tells which there are".into(),
        };
        Error::not_found(format!("graph '{namespace}/{name}' is not known; {hint}"))
    }

    pub(super) fn told(&self, seen: impl Fn(&Arc<OwnGraph>) -> bool) -> Vec<Told> {
        let all = self.0.iter().flat_map(|(namespace, graphs)| {
            graphs
                .iter()
                .map(move |(name, graph)| (namespace, name, graph))
        });
        let seen = all.filter(|(_, _, graph)| seen(graph));
        let told = seen.map(|(namespace, name, graph)| Told {
            namespace: namespace.clone(),
            name: name.clone(),
            digest: graph.digest.clone(),
        });
        told.collect()
    }

    /// Whether somebody may ask every model of a graph, and of the graphs in it.
    pub(super) fn admits(&self, graph: &Arc<OwnGraph>, sight: Sight<'_>) -> Result<(), Error> {
        let mut graphs = vec![graph];
        let mut looked = 0;
        while let Some(graph) = graphs.get(looked).copied() {
            looked += 1;
            for (node, step) in graph.steps() {
                let Place::Path(path) = &step.target else {
                    continue;
                };
                match Route::of_step(path) {
                    Some(Route::ModelInfer(target) | Route::V1(V1::Predict(target))) => {
                        sight.admits(target.name).map_err(|why| {
                            let (step, node) = (&step.key, &node.name);
                            let text = format!(
                                "{}, which step '{step}' of node '{node}' asks",
                                why.message
                            );
                            Error::new(why.code, text)
                        })?;
                    }
                    Some(Route::Graph(named)) => {
                        let inner = self.find(named).ok();
                        let is_new =
                            |inner: &&Arc<OwnGraph>| !graphs.iter().any(|g| Arc::ptr_eq(g, inner));
                        graphs.extend(inner.filter(is_new));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl OwnGraph {
    fn steps(&self) -> impl Iterator<Item = (&Node, &Step)> {
        let nodes = self.flow.nodes().iter();
        nodes.flat_map(|node| node.steps.iter().map(move |step| (node, step)))
    }
}
