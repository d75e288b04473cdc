// SPDX-License-Identifier: Apache-2.0
//! The one door to every route and call: who asks, and whether they may.
//!
//! [`crate::http`] and [`crate::grpc`] answer a [`Permit`] or a [`Call`] and nothing else, and only this
//! module makes them. Both protocols are held to one order: key, route, restriction, scope (or loopback),
//! and only then the method. What is decided is in [`nerite_logic::access`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::http::request::Parts;
use nerite_logic::access::{Asker, Category, Group, Key, Keys, Need, Restrictions, Scope, Subject};
use nerite_logic::wire::grpc::peek;
use nerite_logic::{Code, Error};

use super::doors::{Dialect, Doors};
use super::{Route, Rpc};
use crate::door::Protocol;

/// Headers with which a proxy says that somebody else asks, or a browser that a web page does. They can be
/// made up, but only to be trusted less.
const RELAYED: [&str; 3] = ["x-forwarded-for", "forwarded", "origin"];

/// The field that sets something in messages of calls that may also only read.
const SETTINGS: u32 = 1;

/// Where the other end of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// On this machine.
    Loopback,
    /// Elsewhere, or not known.
    Elsewhere,
}

impl Peer {
    /// The place of an address.
    #[must_use]
    pub fn at(address: Option<SocketAddr>) -> Self {
        match address {
            Some(address) if address.ip().to_canonical().is_loopback() => Self::Loopback,
            _ => Self::Elsewhere,
        }
    }
}

/// What guards the endpoints of an engine.
#[derive(Debug, Default)]
pub struct Guard {
    /// Whether there are keys or restrictions: without, an inference pays for this one look.
    armed: AtomicBool,
    keys: ArcSwapOption<Keys>,
    http: Restrictions,
    grpc: Restrictions,
    remote_management: bool,
    doors: Doors,
}

impl Guard {
    /// A guard without keys.
    #[must_use]
    pub fn new(http: &[Group], grpc: &[Group], remote_management: bool) -> Self {
        let (http, grpc) = (Restrictions::new(http), Restrictions::new(grpc));
        Self {
            armed: AtomicBool::new(!http.is_empty() || !grpc.is_empty()),
            keys: ArcSwapOption::empty(),
            http,
            grpc,
            remote_management,
            doors: Doors::default(),
        }
    }

    /// The same, with doors for clouds.
    #[must_use]
    pub fn with_doors(mut self, doors: Doors) -> Self {
        self.doors = doors;
        self
    }

    /// From now on everything but health needs one of these keys.
    pub fn set_keys(&self, keys: Keys) {
        self.keys.store(Some(Arc::new(keys)));
        self.armed.store(true, Ordering::Relaxed);
    }

    /// Admits a request of one of the ports that speak HTTP/1.1.
    ///
    /// # Errors
    /// Why it is not admitted.
    pub fn admit<'a>(
        &'a self,
        head: &'a Parts,
        protocol: Protocol,
        peer: Peer,
    ) -> Result<Permit<'a>, Refused> {
        if head.headers.get_all(HOST).iter().nth(1).is_some() {
            return Err(Refused::Hosts);
        }
        let door = self.doors.door(head, protocol);
        let writes = door.writes;
        let need = door.route.map_or(Need::AnyKey, |route| route.need(writes));
        let armed = self.armed.load(Ordering::Relaxed);
        let key = if armed {
            self.key(need, &head.headers)?
        } else {
            None
        };
        let route = door.route.ok_or(Refused::NoRoute)?;
        if armed && let Some(category) = route.category() {
            self.open_http(category, &head.headers)?;
        }
        if key.is_some() || need == Need::Scope(Scope::Manage) {
            let asker = Asker {
                key: key.as_deref(),
                may_manage: self.may_manage(peer, &head.headers),
            };
            need.met(
                asker,
                route.subject(),
                format_args!("{} {}", head.method, head.uri.path()),
            )?;
        }
        if !door.answers {
            return Err(Refused::Method);
        }
        if door.closed {
            return Err(Refused::Closed);
        }
        Ok(Permit {
            route,
            key,
            writes,
            dialect: door.dialect,
        })
    }

    /// Admits a gRPC call before its message is read: what is said here needs only its head.
    ///
    /// # Errors
    /// Why it is not admitted.
    pub fn enter(&self, head: &Parts, peer: Peer) -> Result<Entered, Error> {
        let path = head.uri.path();
        let rpc = Rpc::of(path);
        let least = rpc.map_or(Need::AnyKey, |rpc| rpc.need(false));
        let armed = self.armed.load(Ordering::Relaxed);
        let key = if armed {
            self.key(least, &head.headers)?
        } else {
            None
        };
        let rpc = rpc.ok_or_else(|| Error::unsupported(format!("unknown method {path}")))?;
        if armed {
            self.open_grpc(rpc.category(), &head.headers)?;
        }
        // Looked at only for what manages: an inference need not pay for it.
        let may_manage =
            rpc.need(true) == Need::Scope(Scope::Manage) && self.may_manage(peer, &head.headers);
        let entered = Entered {
            rpc,
            key,
            may_manage,
        };
        // A model's name, and whether something is set, are known only from the message.
        match least {
            Need::Scope(scope) if entered.key.as_ref().is_some_and(|key| key.has(scope)) => {}
            _ => entered.met(least, Subject::Server)?,
        }
        Ok(entered)
    }

    /// The key that a request shows, if the server has keys and the request needs one.
    fn key(&self, need: Need, headers: &HeaderMap) -> Result<Option<Arc<Key>>, Error> {
        if need == Need::Nothing {
            return Ok(None);
        }
        let keys = self.keys.load();
        let Some(keys) = keys.as_ref() else {
            return Ok(None);
        };
        let sent = headers.get_all(AUTHORIZATION).iter();
        let key = keys.shown(sent.map(hyper::header::HeaderValue::as_bytes))?;
        Ok(Some(Arc::clone(key)))
    }

    fn may_manage(&self, peer: Peer, headers: &HeaderMap) -> bool {
        let relayed = || RELAYED.iter().any(|name| headers.contains_key(*name));
        self.remote_management || (peer == Peer::Loopback && !relayed())
    }

    fn open_http(&self, category: Category, headers: &HeaderMap) -> Result<(), Error> {
        open(&self.http, category, headers).map_err(|header| {
            let text = format!("This API is restricted, expecting header '{header}'");
            Error::new(Code::PermissionDenied, text)
        })
    }

    fn open_grpc(&self, category: Category, headers: &HeaderMap) -> Result<(), Error> {
        // Triton says UNAVAILABLE, which tells clients to try again.
        open(&self.grpc, category, headers).map_err(|header| {
            let text = format!("This protocol is restricted, expecting header '{header}'");
            Error::new(Code::PermissionDenied, text)
        })
    }
}

fn open<'r>(all: &'r Restrictions, category: Category, headers: &HeaderMap) -> Result<(), &'r str> {
    all.allow(category, |header| {
        let sent = headers.get_all(header).iter();
        sent.map(hyper::header::HeaderValue::as_bytes)
    })
}

/// Why a request is not admitted.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// The asker may not, or is not known.
    Error(Error),
    /// There is nothing at this path.
    NoRoute,
    /// What is there does not answer to this method.
    Method,
    /// This port leads there for nobody.
    Closed,
    /// It is for several hosts.
    Hosts,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// A request that may be answered.
#[derive(Debug)]
pub struct Permit<'a> {
    route: Route<'a>,
    key: Option<Arc<Key>>,
    writes: bool,
    dialect: Dialect,
}

impl<'a> Permit<'a> {
    /// What is asked for.
    #[must_use]
    pub const fn route(&self) -> Route<'a> {
        self.route
    }

    /// Whether something is to be changed, where a route both tells and changes.
    #[must_use]
    pub const fn writes(&self) -> bool {
        self.writes
    }

    /// Whose habits the answer follows.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Which models of a list whoever asks may see.
    #[must_use]
    pub fn sight(&self) -> Sight<'_> {
        Sight(self.key.as_deref())
    }
}

/// A gRPC call whose head is in order.
#[derive(Debug)]
pub struct Entered {
    rpc: Rpc,
    key: Option<Arc<Key>>,
    may_manage: bool,
}

impl Entered {
    /// What is asked for.
    #[must_use]
    pub const fn rpc(&self) -> Rpc {
        self.rpc
    }

    /// Admits a message of the call; of a stream, each one.
    ///
    /// # Errors
    /// Why it is not admitted.
    pub fn admit(&self, message: Bytes) -> Result<Call<'_>, Error> {
        let mut need = self.rpc.need(false);
        if self.rpc.need(true) != need && peek::has_field(&message, SETTINGS)? {
            need = self.rpc.need(true);
        }
        let limited = self.key.as_ref().is_some_and(|key| !key.is_for_all());
        if limited || need == Need::Scope(Scope::Manage) {
            let model = match self.rpc.model_field() {
                Some(field) => peek::text_field(&message, field)?,
                None => bytestring::ByteString::new(),
            };
            let subject = match model.as_ref() {
                "" => Subject::Server,
                name => Subject::Model(name),
            };
            self.met(need, subject)?;
        }
        Ok(Call {
            rpc: self.rpc,
            message,
            key: self.key.as_deref(),
        })
    }

    fn met(&self, need: Need, subject: Subject<'_>) -> Result<(), Error> {
        let asker = Asker {
            key: self.key.as_deref(),
            may_manage: self.may_manage,
        };
        need.met(asker, subject, format_args!("{:?}", self.rpc))
    }
}

/// A gRPC call that may be answered, with its message.
#[derive(Debug)]
pub struct Call<'a> {
    rpc: Rpc,
    message: Bytes,
    key: Option<&'a Key>,
}

impl<'a> Call<'a> {
    /// What is asked for.
    #[must_use]
    pub const fn rpc(&self) -> Rpc {
        self.rpc
    }

    /// Which models of a list whoever asks may see.
    #[must_use]
    pub const fn sight(&self) -> Sight<'a> {
        Sight(self.key)
    }

    /// The message that was admitted.
    #[must_use]
    pub fn into_message(self) -> Bytes {
        self.message
    }
}

/// Which models somebody may see.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a>(Option<&'a Key>);

impl Sight<'_> {
    /// Whether a key was shown.
    #[must_use]
    pub const fn is_keyed(&self) -> bool {
        self.0.is_some()
    }

    /// Whether that is all of them.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.is_none_or(Key::is_for_all)
    }

    /// Patterns of their names, unless all are among them.
    #[must_use]
    pub fn patterns(&self) -> Option<&[String]> {
        let key = self.0.filter(|key| !key.is_for_all());
        key.map(Key::patterns)
    }

    /// Whether a model is among them.
    ///
    /// # Errors
    /// What the key is not for.
    pub fn admits(&self, model: &str) -> Result<(), Error> {
        let asker = Asker {
            key: self.0,
            may_manage: false,
        };
        Need::AnyKey.met(asker, Subject::Model(model), format_args!("a step"))
    }

    /// Whether a model is among them.
    #[must_use]
    pub fn sees(&self, model: &str) -> bool {
        self.0.is_none_or(|key| key.is_for(model))
    }
}

#[cfg(test)]
mod tests;
