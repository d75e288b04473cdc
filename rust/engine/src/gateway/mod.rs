// SPDX-License-Identifier: Apache-2.0
//! One gateway in front of many components: every request of every service comes through here.
//!
//! [`server`] has threads and ports, `live` the routes as they are now with what they count,
//! `proxy` finds out whom a request is for, `forward` takes it there and brings the answer back, piece by piece
//! (`outgoing`, `bodies`), over the connections that `upstream` keeps. `graph` answers the steps of
//! InferenceGraphs ([`crate::graph`] runs them), `batcher` joins V1 requests, `told` overhears what is
//! told to a sink and `payload_log` tells it, `gate` lets only so many through at a time, `secure` is TLS
//! towards others. Which component it is and what failures say is decided in `nerite_logic::gateway`. No
//! request is sent a second time once a component may have seen it, unless twice is as good as once.

pub mod options;
pub mod server;
pub mod shared;

mod batch;
mod batcher;
pub(crate) mod bodies;
mod connections;
mod failures;
mod forward;
mod gate;
mod graph;
pub(crate) mod hops;
mod live;
pub(crate) mod outgoing;
mod payload_log;
mod proxy;
pub(crate) mod secure;
pub(crate) mod speech;
mod told;
pub(crate) mod upstream;

pub use options::GatewayOptions;
pub use server::Gateway;
