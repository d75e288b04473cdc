// SPDX-License-Identifier: Apache-2.0
//! One gateway in front of many components: every request of every service comes through here.
//!
//! [`server`] has threads and ports, `live` the routes as they are now with what they count,
//! `proxy` takes a request to its component and the answer back, piece by piece, over the connections
//! that `upstream` keeps. `graph` runs InferenceGraphs, `batcher` joins V1 requests, `payload_log` tells
//! a sink of what passed, `gate` lets only so many through at a time, `secure` is TLS towards others. Which component it is and what failures say is decided in
//! `nerite_logic::gateway`. No request is sent a second time once a component may have seen it.

pub mod options;
pub mod server;

mod batcher;
mod bodies;
mod connections;
mod failures;
mod gate;
mod graph;
mod hops;
mod live;
mod payload_log;
mod proxy;
mod secure;
mod upstream;

pub use options::GatewayOptions;
pub use server::Gateway;
