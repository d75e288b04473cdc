// SPDX-License-Identifier: Apache-2.0
//! The route table: which component answers a request.
//!
//! The control plane writes it as JSON (`nerite.kserve.gateway`); every name a client may use is spelled
//! out there, so finding a route is a look-up of the host or of `/serving/<namespace>/<name>`.

use std::collections::HashMap;

use serde::Deserialize;

use super::failure::{Failure, Kind};
use crate::Error;

/// Where path routing begins.
const PATHS: &str = "/serving/";
/// What the path of an explanation ends with.
const EXPLAIN: &str = ":explain";
/// Known hosts that a refusal names.
const NAMED: usize = 8;

/// The table as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    services: Vec<Service>,
    /// Index of the service that answers what no name leads to.
    #[serde(default)]
    default: Option<usize>,
}

/// A service: some components under common names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Hosts that mean the service as a whole.
    pub hosts: Vec<String>,
    /// The component that answers for it.
    pub entry: String,
    /// The component that answers `:explain`, if another one does.
    #[serde(default)]
    pub explain: Option<String>,
    /// Its components.
    pub components: Vec<Component>,
}

/// A component: something that answers, in one or more revisions.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// `predictor`, `transformer`, `explainer`, `graph`.
    pub name: String,
    /// Hosts that mean this component.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Revisions among which requests are shared out.
    #[serde(default)]
    pub revisions: Vec<Revision>,
    /// Seconds until an answer must have begun.
    #[serde(default)]
    pub timeout_secs: Option<f64>,
    /// The graph that it is, if it is one; see [`super::graph::Graph`].
    #[serde(default)]
    pub graph: Option<serde_json::Value>,
    /// How its requests are joined.
    #[serde(default)]
    pub batcher: Option<Batcher>,
    /// Where its requests and answers are told.
    #[serde(default)]
    pub logger: Option<Logger>,
    /// Why there is nobody to answer, told when no revision has a replica.
    #[serde(default)]
    pub absent: Option<String>,
}

/// How V1 requests are joined into batches.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batcher {
    /// Instances that make a batch complete.
    pub max_batch_size: usize,
    /// Milliseconds after which an incomplete one is sent.
    pub max_latency_ms: u64,
}

/// Where requests and answers are told, as CloudEvents.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logger {
    /// The sink's `host:port`.
    pub authority: String,
    /// The sink's path.
    pub path: String,
    /// Requests are told.
    pub requests: bool,
    /// Answers are told.
    pub responses: bool,
    /// The event's attributes that are always the same, as headers.
    pub attributes: Vec<(String, String)>,
    /// Headers of the request that are told along.
    pub metadata_headers: Vec<String>,
}

/// One revision of a component.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revision {
    /// Its share of the requests.
    pub weight: u32,
    /// The processes that serve it.
    pub replicas: Vec<Replica>,
}

/// A process that serves: `host:port` of each protocol it speaks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replica {
    /// HTTP/1.1.
    #[serde(default)]
    pub http: Option<String>,
    /// gRPC, over HTTP/2 without TLS.
    #[serde(default)]
    pub grpc: Option<String>,
}

/// A component's place in a [`Table`].
pub type Place = (usize, usize);

#[derive(Clone, Copy, Debug)]
struct Route {
    entry: Place,
    explain: Place,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'p> {
    /// The component that answers it.
    pub place: Place,
    /// The path it is asked with; the prefix of path routing is gone.
    pub path: &'p str,
    /// That prefix.
    pub prefix: &'p str,
}

/// The table, ready for look-ups.
#[derive(Clone, Debug, Default)]
pub struct Table {
    services: Vec<Service>,
    hosts: HashMap<String, Route>,
    /// By `namespace/name`.
    paths: HashMap<String, Route>,
    default: Option<Route>,
}

impl Table {
    /// Reads a table.
    ///
    /// # Errors
    /// If it is no table, or it contradicts itself.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        let written: Written = serde_json::from_str(json)
            .map_err(|why| Error::invalid(format!("the route table is not usable: {why}")))?;
        let mut table = Self::default();
        for (index, service) in written.services.iter().enumerate() {
            table.add(index, service)?;
        }
        if let Some(index) = written.default {
            let service = written.services.get(index).ok_or_else(|| {
                Error::invalid(format!("the route table has no service number {index}"))
            })?;
            table.default = Some(route_of(index, service)?);
        }
        table.services = written.services;
        Ok(table)
    }

    fn add(&mut self, index: usize, service: &Service) -> Result<(), Error> {
        let route = route_of(index, service)?;
        let path = format!("{}/{}", service.namespace, service.name);
        if self.paths.insert(path, route).is_some() {
            let text = format!("{} is twice in the route table", named(service));
            return Err(Error::invalid(text));
        }
        for host in &service.hosts {
            self.add_host(host, route, service)?;
        }
        for (at, component) in service.components.iter().enumerate() {
            check_component(service, component)?;
            let place = (index, at);
            for host in &component.hosts {
                let route = Route {
                    entry: place,
                    explain: place,
                };
                self.add_host(host, route, service)?;
            }
        }
        Ok(())
    }

    fn add_host(&mut self, host: &str, route: Route, service: &Service) -> Result<(), Error> {
        if self
            .hosts
            .insert(host.to_ascii_lowercase(), route)
            .is_some()
        {
            let text = format!(
                "host '{host}' of {} is twice in the route table",
                named(service)
            );
            return Err(Error::invalid(text));
        }
        Ok(())
    }

    /// The component for a request to `host` (without port) and `path`.
    ///
    /// # Errors
    /// [`Kind::NotFound`], naming what was asked for and what there is.
    pub fn find<'p>(&self, host: &str, path: &'p str) -> Result<Found<'p>, Failure> {
        if let Some(inside) = path.strip_prefix(PATHS) {
            return self.find_path(path, inside);
        }
        let route = self.host(host).or(self.default);
        let route = route.ok_or_else(|| self.no_host(host))?;
        Ok(found(route, path, ""))
    }

    /// The component that a host leads to, for a call with `path`.
    #[must_use]
    pub fn at_host(&self, host: &str, path: &str) -> Option<Place> {
        Some(found(self.host(host)?, path, "").place)
    }

    fn host(&self, host: &str) -> Option<Route> {
        match self.hosts.get(host) {
            Some(route) => Some(*route),
            None if host.bytes().any(|byte| byte.is_ascii_uppercase()) => {
                self.hosts.get(&host.to_ascii_lowercase()).copied()
            }
            None => None,
        }
    }

    fn find_path<'p>(&self, path: &'p str, inside: &'p str) -> Result<Found<'p>, Failure> {
        let mut slashes = inside.match_indices('/').map(|(at, _)| at);
        let after_name = slashes.nth(1).unwrap_or(inside.len());
        let (name, rest) = inside.split_at(after_name);
        let route = self.paths.get(name).ok_or_else(|| {
            let known = some_of(self.paths.keys().map(String::as_str));
            let text = format!("no service is served at '{PATHS}{name}'; known: {known}");
            Failure::new(Kind::NotFound, text)
        })?;
        let prefix = path.get(..path.len() - rest.len()).unwrap_or_default();
        Ok(found(
            *route,
            if rest.is_empty() { "/" } else { rest },
            prefix,
        ))
    }

    fn no_host(&self, host: &str) -> Failure {
        let entries = self.services.iter().filter_map(|s| s.hosts.first());
        let known = some_of(entries.map(String::as_str));
        let text = format!(
            "no service is known by the host '{host}'; known: {known}; or ask for {PATHS}<namespace>/<name>/..."
        );
        Failure::new(Kind::NotFound, text)
    }

    /// All services.
    #[must_use]
    pub fn services(&self) -> &[Service] {
        &self.services
    }
}

fn found<'p>(route: Route, path: &'p str, prefix: &'p str) -> Found<'p> {
    let place = match path.ends_with(EXPLAIN) {
        true => route.explain,
        false => route.entry,
    };
    Found {
        place,
        path,
        prefix,
    }
}

fn some_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    match names.len() {
        0 => "none".into(),
        count if count > NAMED => {
            names.truncate(NAMED);
            format!("{}, and {} more", names.join(", "), count - NAMED)
        }
        _ => names.join(", "),
    }
}

/// A service as texts name it.
fn named(service: &Service) -> String {
    format!("service '{}/{}'", service.namespace, service.name)
}

fn route_of(index: usize, service: &Service) -> Result<Route, Error> {
    let at = |name: &str| {
        let mut components = service.components.iter();
        components
            .position(|c| c.name == name)
            .map(|at| (index, at))
            .ok_or_else(|| Error::invalid(format!("{} has no component '{name}'", named(service))))
    };
    let entry = at(&service.entry)?;
    let explain = service.explain.as_deref().map_or(Ok(entry), at)?;
    Ok(Route { entry, explain })
}

fn check_component(service: &Service, component: &Component) -> Result<(), Error> {
    let wrong = |text: String| {
        let of = format!("{}, component '{}'", named(service), component.name);
        Err(Error::invalid(format!("{of}: {text}")))
    };
    if let Some(seconds) = component.timeout_secs
        && !(seconds > 0.0 && seconds < 1e9)
    {
        return wrong(format!("timeout_secs is {seconds}, expected seconds > 0"));
    }
    if let Some(batcher) = &component.batcher
        && batcher.max_batch_size == 0
    {
        return wrong("batcher.max_batch_size is 0, expected at least 1".into());
    }
    for replica in component.revisions.iter().flat_map(|r| &r.replicas) {
        for address in [&replica.http, &replica.grpc].into_iter().flatten() {
            let port = address
                .rsplit_once(':')
                .map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                return wrong(format!("replica '{address}' is not of the form host:port"));
            }
        }
    }
    Ok(())
}
