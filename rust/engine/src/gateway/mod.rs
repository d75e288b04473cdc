// SPDX-License-Identifier: Apache-2.0
//! One gateway in front of many components: every request of every service comes through here.
//!
//! [`server`] has threads and ports, `live` the routes as they are now with what they count,
//! `proxy` takes a request to its component and the answer back, piece by piece, over the connections
//! that `upstream` keeps. `graph` answers the steps of InferenceGraphs ([`crate::graph`] runs them), `batcher` joins V1 requests, `payload_log` tells
//! a sink of what passed, `gate` lets only so many through at a time, `secure` is TLS towards others. Which component it is and what failures say is decided in
//! `nerite_logic::gateway`. No request is sent a second time once a component may have seen it.

pub mod options;
pub mod server;

mod batcher;
pub(crate) mod bodies;
mod connections;
mod failures;
mod gate;
mod graph;
pub(crate) mod hops;
pub(crate) mod live;
mod payload_log;
mod proxy;
pub(crate) mod secure;
pub(crate) mod upstream;

pub use options::GatewayOptions;
pub use server::Gateway;
