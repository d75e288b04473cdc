// SPDX-License-Identifier: Apache-2.0
//! The table as the control plane writes it.

use serde::Deserialize;

use crate::Error;

/// The table as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// All services.
    pub services: Vec<Service>,
    /// Index of the service that answers what no name leads to.
    #[serde(default)]
    pub default: Option<usize>,
}

/// A service: some components under common names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Hosts that mean the service as a whole.
    pub hosts: Vec<String>,
    /// The component that answers for it.
    pub entry: String,
    /// The component that answers `:explain`, if another one does.
    #[serde(default)]
    pub explain: Option<String>,
    /// Its components.
    pub components: Vec<Component>,
}

/// A component: something that answers, in one or more revisions.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// `predictor`, `transformer`, `explainer`, `graph`.
    pub name: String,
    /// Hosts that mean this component.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Revisions among which requests are shared out.
    #[serde(default)]
    pub revisions: Vec<Revision>,
    /// What its replicas are asked under: it goes before the path of every request.
    #[serde(default)]
    pub at: String,
    /// Seconds until an answer must have begun.
    #[serde(default)]
    pub timeout_secs: Option<f64>,
    /// Requests that each of its replicas works on at a time; 0 for any number.
    #[serde(default)]
    pub concurrency: usize,
    /// The graph that it is, if it is one; see [`super::super::graph::Graph`].
    #[serde(default)]
    pub graph: Option<serde_json::Value>,
    /// How its requests are joined.
    #[serde(default)]
    pub batcher: Option<Batcher>,
    /// Where its requests and answers are told.
    #[serde(default)]
    pub logger: Option<Logger>,
    /// Why there is nobody to answer, told when no revision has a replica.
    #[serde(default)]
    pub absent: Option<String>,
}

/// How V1 requests are joined into batches.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batcher {
    /// Instances that make a batch complete.
    pub max_batch_size: usize,
    /// Milliseconds after which an incomplete one is sent.
    pub max_latency_ms: u64,
}

/// Where requests and answers are told, as CloudEvents.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logger {
    /// The sink's `host:port`.
    pub authority: String,
    /// The sink's path.
    pub path: String,
    /// Requests are told.
    pub requests: bool,
    /// Answers are told.
    pub responses: bool,
    /// The event's attributes that are always the same, as headers.
    pub attributes: Vec<(String, String)>,
    /// Headers of the request that are told along.
    pub metadata_headers: Vec<String>,
}

/// One revision of a component.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revision {
    /// Its share of the requests.
    pub weight: u32,
    /// The processes that serve it.
    pub replicas: Vec<Replica>,
}

/// A process that serves: `host:port` of each protocol it speaks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replica {
    /// HTTP/1.1.
    #[serde(default)]
    pub http: Option<String>,
    /// gRPC, over HTTP/2 without TLS.
    #[serde(default)]
    pub grpc: Option<String>,
}

impl Component {
    /// Checks what no type says; `of` names the service in the refusal.
    pub(super) fn check(&self, of: &str) -> Result<(), Error> {
        let wrong = |text: String| {
            let of = format!("{of}, component '{}'", self.name);
            Err(Error::invalid(format!("{of}: {text}")))
        };
        if let Some(seconds) = self.timeout_secs
            && !(seconds > 0.0 && seconds < 1e9)
        {
            return wrong(format!("timeout_secs is {seconds}, expected seconds > 0"));
        }
        if !(self.at.is_empty() || is_prefix(&self.at)) {
            return wrong(format!(
                "at is '{}', expected a path such as '/graphs/default/name', without a slash at its end",
                self.at
            ));
        }
        if let Some(batcher) = &self.batcher
            && batcher.max_batch_size == 0
        {
            return wrong("batcher.max_batch_size is 0, expected at least 1".into());
        }
        for replica in self.revisions.iter().flat_map(|r| &r.replicas) {
            for address in [&replica.http, &replica.grpc].into_iter().flatten() {
                let port = address
                    .rsplit_once(':')
                    .map(|(_, port)| port.parse::<u16>());
                if !address.starts_with("unix:/") && !matches!(port, Some(Ok(_))) {
                    let text = format!("replica '{address}' is not of the form host:port");
                    return wrong(format!("{text} or unix:/path"));
                }
            }
        }
        Ok(())
    }
}

/// Whether a path can stand before others.
fn is_prefix(at: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    at.starts_with('/') && !at.ends_with('/') && at.bytes().all(plain)
}
