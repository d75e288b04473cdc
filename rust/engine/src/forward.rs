// SPDX-License-Identifier: Apache-2.0
//! Headers of a request on their way to its model. Which ones, is decided in [`nerite_logic::forwarding`].

use hyper::HeaderMap;
use hyper::http::request::Parts;
use nerite_logic::Error;
use nerite_logic::forwarding::Forwarding;
use nerite_logic::message::Parameters;

use crate::options::Options;
use crate::spelling::Spelling;

/// Metadata that belongs to the transport, and that gRPC libraries do not show either.
const TRANSPORT: [&str; 3] = ["content-type", "te", "host"];

/// What is forwarded of each protocol; mostly nothing.
#[derive(Debug)]
pub struct Forward {
    http: Option<Forwarding>,
    grpc: Option<Forwarding>,
}

impl Forward {
    /// As an engine's options say.
    ///
    /// # Errors
    /// If a pattern is not a regular expression.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let secret = || {
            let groups = options
                .http_restricted
                .iter()
                .chain(&options.grpc_restricted);
            groups.map(|group| group.header.as_str())
        };
        let made = |flag, pattern: &str| Forwarding::new(flag, pattern, secret());
        Ok(Self {
            http: made(
                "--http-header-forward-pattern",
                &options.http_header_forward,
            )?,
            grpc: made(
                "--grpc-header-forward-pattern",
                &options.grpc_header_forward,
            )?,
        })
    }

    /// Whether anything of HTTP is forwarded, so that the spelling of names must be kept.
    #[must_use]
    pub const fn is_spelled(&self) -> bool {
        self.http.is_some()
    }

    /// Adds what is forwarded of an HTTP request, under the names as they were sent.
    ///
    /// # Errors
    /// If a header that fits cannot be forwarded.
    pub fn http(&self, head: &Parts, parameters: &mut Parameters) -> Result<(), Error> {
        let Some(forwarding) = &self.http else {
            return Ok(());
        };
        let spelling = head.extensions.get::<Spelling>();
        for name in head.headers.keys() {
            if !forwarding.takes(name.as_str()) {
                continue;
            }
            for (index, value) in head.headers.get_all(name).iter().enumerate() {
                let spelled = spelling.and_then(|known| known.of(name.as_str(), index));
                let spelled = spelled.unwrap_or(name.as_str());
                forwarding.add(parameters, spelled, value.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Adds what is forwarded of a call's metadata; names are in lower case there.
    ///
    /// # Errors
    /// If an entry that fits cannot be forwarded.
    pub fn grpc(&self, metadata: &HeaderMap, parameters: &mut Parameters) -> Result<(), Error> {
        let Some(forwarding) = &self.grpc else {
            return Ok(());
        };
        for (name, value) in metadata {
            let name = name.as_str();
            let is_transport = TRANSPORT.contains(&name) || name.starts_with("grpc-");
            if !is_transport && forwarding.takes(name) {
                forwarding.add(parameters, name, value.as_bytes())?;
            }
        }
        Ok(())
    }
}
