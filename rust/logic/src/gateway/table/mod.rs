// SPDX-License-Identifier: Apache-2.0
//! The route table: which component answers a request.
//!
//! The control plane writes it as JSON (`nerite.kserve.gateway`); every name a client may use is spelled
//! out there, so finding a route is a look-up of the host or of `/serving/<namespace>/<name>`.

mod written;

use std::collections::HashMap;

use super::failure::{Failure, Kind};
use crate::Error;
use written::Written;
pub use written::{Batcher, Component, Logger, Replica, Revision, Service};

/// Where path routing begins.
const PATHS: &str = "/serving/";
/// What the path of an explanation ends with.
const EXPLAIN: &str = ":explain";
/// Known hosts that a refusal names.
const NAMED: usize = 8;

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
            component.check(&named(service))?;
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
