// SPDX-License-Identifier: Apache-2.0
//! Nerite's data plane.
//!
//! A request's path: a socket of an I/O thread ([`http`], [`grpc`]) gives bytes, `nerite_logic` makes a
//! message of them and checks it, [`lane`] collects what one poll brought and hands it to the model
//! version's queue ([`version`]) in one go, an instance thread takes a batch, and the replies of that
//! batch go back to the I/O threads that own the connections, again in one go. Who executes a batch is
//! not known here: the `binding` crate calls Python, a test may do anything.
//!
//! Streams go the same way, but for their answers: [`responses`].
//!
//! What is decided (which requests run together, which error a request earns) lives in `nerite_logic`.

mod accepting;
pub mod access_log;
pub mod arrival;
mod body;
pub mod buffers;
pub mod cache;
pub mod compression;
pub mod connection;
pub mod control;
mod conversation;
pub mod custom_metrics;
mod dialects;
pub mod door;
pub mod ensemble;
mod failure;
pub mod forward;
mod frames;
pub mod gateway;
pub mod gather;
mod generate;
pub mod graph;
pub mod grpc;
mod grpc_message;
mod grpc_options;
mod grpc_status;
mod grpc_stream;
pub mod http;
mod in_parts;
mod infer;
pub mod instance;
pub mod lane;
pub mod latencies;
pub mod line;
pub mod listening;
pub mod metadata;
pub mod metrics;
mod openapi;
pub mod options;
pub mod rate_limit;
mod reading;
pub mod regions;
mod reply;
pub mod repository;
mod request_body;
pub mod response_statistics;
pub mod responses;
pub mod routes;
mod sagemaker;
pub mod sampling;
pub mod server;
mod settings;
pub mod shared;
pub mod shared_memory;
mod small_writes;
mod spelling;
pub mod statistics;
mod stream_requests;
pub mod table;
pub mod timekeeper;
pub mod tls;
pub mod trace;
mod v1;
mod v2;
pub mod version;

pub use gateway::Gateway;
pub use options::Options;
pub use server::Engine;
pub use version::Version;
