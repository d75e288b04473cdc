// SPDX-License-Identifier: Apache-2.0
//! What the control plane may set when it makes an engine.

use std::collections::BTreeMap;
use std::time::Duration;

use nerite_logic::Error;
use nerite_logic::access::Group;
use nerite_logic::cache::ENTRY_BYTES;
use serde::Deserialize;

use crate::grpc_options::GrpcOptions;
use crate::latencies::LatencyOptions;
use crate::routes::doors::Doors;

/// Settings of an engine, fixed for its life.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The name in server metadata.
    pub server_name: String,
    /// The version in server metadata.
    pub server_version: String,
    /// The protocol extensions in server metadata.
    pub extensions: Vec<String>,
    /// Number of I/O threads; 0 is one for each core this process may use.
    pub io_threads: usize,
    /// Largest HTTP body in bytes.
    pub max_request_bytes: usize,
    /// Largest gRPC message in bytes.
    pub max_message_bytes: usize,
    /// Most connections at a time, over all ports.
    pub max_connections: usize,
    /// Most concurrent gRPC calls on one connection.
    pub max_streams: u32,
    /// How long a request may take to arrive once its first byte has.
    pub header_timeout_secs: f64,
    /// What concerns gRPC alone.
    pub grpc: GrpcOptions,
    /// Keep latency histograms besides Triton's sums.
    pub latency_histograms: bool,
    /// A file that gets a line for each answered request; `-` is standard error, empty is none.
    pub access_log: String,
    /// Write those lines as JSON.
    pub access_log_json: bool,
    /// Most bytes of answers that are kept for models that cache; 0 keeps none.
    pub cache_bytes: usize,
    /// Clients may register shared memory.
    pub allow_client_shm: bool,
    /// Which of Triton's latencies are told.
    pub latencies: LatencyOptions,
    /// Groups of HTTP endpoints that want a header.
    pub http_restricted: Vec<Group>,
    /// Groups of gRPC calls that want a header.
    pub grpc_restricted: Vec<Group>,
    /// Answer management to other machines too, without a key.
    pub remote_management: bool,
    /// The pattern of names of HTTP headers that models see as parameters; empty is none.
    pub http_header_forward: String,
    /// The same for gRPC metadata.
    pub grpc_header_forward: String,
    /// What the ports of clouds lead to.
    pub doors: Doors,
    /// How much there is of resources; `None` if instances run without regard to them.
    pub rate_limit: Option<BTreeMap<String, u32>>,
    /// Health is told in JSON too, as KServe's servers do, and not by the status alone.
    pub health_json: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            server_name: "nerite".into(),
            server_version: env!("CARGO_PKG_VERSION").into(),
            extensions: Vec::new(),
            io_threads: 0,
            max_request_bytes: 64 << 20,
            max_message_bytes: i32::MAX as usize,
            max_connections: 65_536,
            max_streams: 1_024,
            header_timeout_secs: 30.0,
            grpc: GrpcOptions::default(),
            latency_histograms: true,
            access_log: String::new(),
            access_log_json: false,
            cache_bytes: 0,
            allow_client_shm: false,
            latencies: LatencyOptions::default(),
            http_restricted: Vec::new(),
            grpc_restricted: Vec::new(),
            remote_management: false,
            http_header_forward: String::new(),
            grpc_header_forward: String::new(),
            doors: Doors::default(),
            rate_limit: None,
            health_json: false,
        }
    }
}

impl Options {
    /// Reads options from a JSON object.
    ///
    /// # Errors
    /// If a key is unknown or a value has the wrong type or range.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        let options: Self = serde_json::from_str(json)
            .map_err(|why| Error::invalid(format!("engine options are not usable: {why}")))?;
        if !(options.header_timeout_secs > 0.0 && options.header_timeout_secs < 1e9) {
            return Err(Error::invalid(format!(
                "engine option 'header_timeout_secs' is {}, expected seconds > 0",
                options.header_timeout_secs
            )));
        }
        if options.cache_bytes != 0 && options.cache_bytes < ENTRY_BYTES {
            return Err(Error::invalid(format!(
                "Failed to initialize LocalCache: size {} is too small; an answer takes {ENTRY_BYTES} bytes \
                 beside its data",
                options.cache_bytes
            )));
        }
        options.grpc.check()?;
        Ok(options)
    }

    /// How long a request may take to arrive once its first byte has.
    #[must_use]
    pub fn arrival_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.header_timeout_secs)
    }

    /// The number of I/O threads to start.
    #[must_use]
    pub fn thread_count(&self) -> usize {
        match self.io_threads {
            0 => std::thread::available_parallelism()
                .map_or(1, std::num::NonZero::get)
                .min(8),
            n => n.min(64),
        }
    }
}
