// SPDX-License-Identifier: Apache-2.0
//! The routes as they are now, and what is known of the components behind them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Method;
use nerite_logic::Error;
use nerite_logic::gateway::failure::{Failure, Kind};
use nerite_logic::gateway::table::{self, Place, Table};
use nerite_logic::gateway::weights::Shares;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::batch::Batcher;
use super::gate::{self, Gate};
use super::speech::Speech;
use super::told::Sink;
use crate::graph::Flow;

/// One state of the routes. Replaced as a whole; requests under way keep theirs.
#[derive(Debug, Default)]
pub struct Live {
    /// Which component a request is for.
    pub table: Table,
    /// By service, then component.
    components: Vec<Vec<Arc<Component>>>,
    /// By the replicas that they stand before.
    gates: HashMap<String, Arc<Gate>>,
}

impl Live {
    /// Makes routes live; gates before the same replicas stay, with whoever has passed or waits.
    ///
    /// # Errors
    /// If the table is not usable.
    pub fn from_json(json: &str, before: &Self) -> Result<Self, Error> {
        let table = Table::from_json(json)?;
        let mut gates = HashMap::new();
        let mut gate = |key: String, places: usize| {
            let same = before.gates.get(&key).map(Arc::clone);
            let gate = same.unwrap_or_else(|| Arc::new(Gate::new(places)));
            gates.insert(key, Arc::clone(&gate));
            gate
        };
        let services = table.services().iter().map(|service| {
            let all = service.components.iter();
            let all =
                all.map(|component| Component::new(service, component, &mut gate).map(Arc::new));
            all.collect::<Result<_, Error>>()
        });
        let components = services.collect::<Result<_, Error>>()?;
        Ok(Self {
            table,
            components,
            gates,
        })
    }

    /// A component of this table.
    pub fn component(&self, (service, component): Place) -> Option<&Arc<Component>> {
        self.components.get(service)?.get(component)
    }
}

/// What can answer: revisions with their replicas.
#[derive(Debug)]
pub struct Component {
    /// How texts name it.
    pub name: String,
    /// What goes before the path of every request.
    pub at: String,
    /// Until an answer must have begun.
    pub timeout: Option<Duration>,
    /// The graph that it is.
    pub flow: Option<Flow>,
    /// Joins its V1 requests.
    pub batcher: Option<Batcher>,
    /// Where its requests and answers are told.
    pub sink: Option<Arc<Sink>>,
    absent: String,
    revisions: Vec<Group>,
    /// `None` if there is no choice.
    shares: Option<Mutex<Shares>>,
}

/// The replicas of one revision.
#[derive(Debug)]
pub struct Group {
    replicas: Vec<Arc<Replica>>,
    /// If each replica works on so many requests only.
    gate: Option<Arc<Gate>>,
}

/// One process that serves.
#[derive(Debug)]
pub struct Replica {
    http: Option<Arc<str>>,
    grpc: Option<Arc<str>>,
    /// Requests that it works on.
    in_flight: AtomicUsize,
}

/// Replicas to try, in this order.
pub type Candidates = SmallVec<[Arc<Replica>; 2]>;

impl Component {
    fn new(
        service: &table::Service,
        written: &table::Component,
        gate: &mut impl FnMut(String, usize) -> Arc<Gate>,
    ) -> Result<Self, Error> {
        let name = format!(
            "service '{}/{}', component '{}'",
            service.namespace, service.name, written.name
        );
        // A revision without replicas has no share: its requests go to the others.
        let usable = written.revisions.iter().filter(|r| !r.replicas.is_empty());
        let usable: Vec<_> = usable.filter(|r| r.weight > 0).collect();
        let shares = Shares::new(usable.iter().map(|revision| revision.weight));
        let of = |why: Error| Error::invalid(format!("{name}: {}", why.message));
        let flow = written
            .graph
            .clone()
            .map(Flow::new)
            .transpose()
            .map_err(of)?;
        let sink = written
            .logger
            .as_ref()
            .map(Sink::new)
            .transpose()
            .map_err(of)?;
        Ok(Self {
            flow,
            batcher: written.batcher.as_ref().map(Batcher::new),
            sink: sink.map(Arc::new),
            at: written.at.clone(),
            timeout: written.timeout_secs.map(Duration::from_secs_f64),
            absent: written.absent.clone().unwrap_or("it has no replica".into()),
            shares: (usable.len() > 1).then(|| Mutex::new(shares)),
            revisions: usable
                .iter()
                .map(|revision| Group::new(revision, written.concurrency, gate))
                .collect(),
            name,
        })
    }

    /// Whether a request's whole body is needed before anybody is asked.
    pub fn collects(&self, method: &Method, path: &str) -> bool {
        self.flow.is_some() || (self.batcher.is_some() && Batcher::takes(method, path))
    }

    /// The replicas of the revision whose turn it is.
    ///
    /// # Errors
    /// If there is none.
    pub fn turn(&self) -> Result<&Group, Failure> {
        let turn = self.shares.as_ref().and_then(|shares| shares.lock().turn());
        let group = self.revisions.get(turn.unwrap_or(0));
        group.ok_or_else(|| self.failure(Kind::Unavailable, &self.absent))
    }

    /// Waits until a replica may be given another request; the place is kept until it is answered.
    ///
    /// # Errors
    /// If too many wait already.
    pub async fn pass(&self, group: &Group) -> Result<Option<gate::Place>, Failure> {
        let Some(gate) = &group.gate else {
            return Ok(None);
        };
        let place = gate.pass().await;
        let text = "too many requests wait for it (containerConcurrency)";
        place.map_or_else(
            || Err(self.failure(Kind::Unavailable, text)),
            |p| Ok(Some(p)),
        )
    }

    /// The replicas of a group that speak `speech`, the least busy first.
    ///
    /// # Errors
    /// If there is none.
    pub fn candidates(&self, group: &Group, speech: Speech) -> Result<Candidates, Failure> {
        let replicas = &group.replicas;
        let speaks = |replica: &&Arc<Replica>| replica.address(speech).is_some();
        let mut chosen: Candidates = replicas.iter().filter(speaks).map(Arc::clone).collect();
        if chosen.is_empty() {
            let what = match speech {
                Speech::Http => "it has no HTTP port",
                Speech::Grpc => "it has no gRPC port",
            };
            return Err(self.failure(Kind::Unsupported, what));
        }
        if chosen.len() > 1 {
            chosen.sort_by_key(|replica| replica.in_flight.load(Ordering::Relaxed));
        }
        Ok(chosen)
    }

    /// A failure of this component.
    pub fn failure(&self, kind: Kind, text: &str) -> Failure {
        Failure::new(kind, format!("{}: {text}", self.name))
    }
}

impl Group {
    fn new(
        revision: &table::Revision,
        concurrency: usize,
        gate: &mut impl FnMut(String, usize) -> Arc<Gate>,
    ) -> Self {
        let replicas = replicas_of(revision);
        let places = concurrency.saturating_mul(replicas.len());
        let addresses = || {
            let all = replicas.iter();
            let all = all.filter_map(|replica| replica.http.as_deref().or(replica.grpc.as_deref()));
            format!("{places} {}", all.collect::<Vec<_>>().join(" "))
        };
        Self {
            gate: (concurrency > 0).then(|| gate(addresses(), places)),
            replicas,
        }
    }
}

fn replicas_of(revision: &table::Revision) -> Vec<Arc<Replica>> {
    let address = |text: &Option<String>| text.as_deref().map(Arc::from);
    let made = revision.replicas.iter().map(|replica| Replica {
        http: address(&replica.http),
        grpc: address(&replica.grpc),
        in_flight: AtomicUsize::new(0),
    });
    made.map(Arc::new).collect()
}

impl Replica {
    /// Where it speaks `speech`.
    pub fn address(&self, speech: Speech) -> Option<&Arc<str>> {
        match speech {
            Speech::Http => self.http.as_ref(),
            Speech::Grpc => self.grpc.as_ref(),
        }
    }
}

/// A request that a replica works on; counted until it is dropped.
#[derive(Debug)]
pub struct Working {
    replica: Arc<Replica>,
    /// Its place behind the gate.
    pub place: Option<gate::Place>,
}

impl Working {
    /// Counts one more.
    pub fn on(replica: &Arc<Replica>) -> Self {
        replica.in_flight.fetch_add(1, Ordering::Relaxed);
        Self {
            replica: Arc::clone(replica),
            place: None,
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.replica.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
