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

pub mod access_log;
pub mod buffers;
pub mod cache;
pub mod control;
mod conversation;
pub mod custom_metrics;
pub mod ensemble;
pub mod forward;
mod frames;
pub mod gateway;
pub mod gather;
pub mod grpc;
mod grpc_message;
mod grpc_options;
pub mod http;
pub mod instance;
pub mod lane;
pub mod latencies;
pub mod line;
pub mod metrics;
pub mod options;
pub mod rate_limit;
pub mod response_statistics;
pub mod responses;
pub mod sampling;
pub mod server;
pub mod shared_memory;
pub mod statistics;
pub mod table;
pub mod timekeeper;
pub mod trace;
pub mod version;

pub mod arrival;
mod body;
pub mod compression;
pub mod connection;
mod dialects;
mod failure;
mod generate;
pub mod graph;
mod grpc_stream;
mod in_parts;
mod infer;
pub mod listening;
pub mod metadata;
mod openapi;
mod reading;
pub mod repository;
mod request_body;
pub mod routes;
mod sagemaker;
mod settings;
mod small_writes;
mod spelling;
mod stream_requests;
pub mod tls;
mod v1;

pub use gateway::Gateway;
pub use options::Options;
pub use server::Engine;
pub use version::Version;
