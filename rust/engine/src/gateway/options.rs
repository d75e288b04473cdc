// SPDX-License-Identifier: Apache-2.0
//! What may be set when a gateway is made.

use std::time::Duration;

use nerite_logic::Error;
use serde::Deserialize;

/// Settings of a gateway, fixed for its life.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayOptions {
    /// Number of I/O threads.
    pub io_threads: usize,
    /// Largest HTTP request body in bytes; gRPC streams have no limit here.
    pub max_request_bytes: usize,
    /// Most client connections at a time.
    pub max_connections: usize,
    /// How long a request's head may take to arrive, and a body may pause where it is collected.
    pub arrival_timeout_secs: f64,
    /// How long a component may take to accept a connection.
    pub connect_timeout_secs: f64,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            io_threads: 1,
            max_request_bytes: 64 << 20,
            max_connections: 65_536,
            arrival_timeout_secs: 30.0,
            connect_timeout_secs: 5.0,
        }
    }
}

impl GatewayOptions {
    /// Reads options from a JSON object.
    ///
    /// # Errors
    /// If a key is unknown or a value has the wrong type or range.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        let options: Self = serde_json::from_str(json)
            .map_err(|why| Error::invalid(format!("gateway options are not usable: {why}")))?;
        for (name, value) in [
            ("arrival_timeout_secs", options.arrival_timeout_secs),
            ("connect_timeout_secs", options.connect_timeout_secs),
        ] {
            if !(value > 0.0 && value < 1e9) {
                let text = format!("gateway option '{name}' is {value}, expected seconds > 0");
                return Err(Error::invalid(text));
            }
        }
        if !(1..=64).contains(&options.io_threads) {
            return Err(Error::invalid(format!(
                "gateway option 'io_threads' is {}, expected 1 to 64",
                options.io_threads
            )));
        }
        Ok(options)
    }

    /// How long a head may take, and a collected body may pause.
    #[must_use]
    pub fn arrival_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.arrival_timeout_secs)
    }

    /// How long a connection to a component may take.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.connect_timeout_secs)
    }
}
