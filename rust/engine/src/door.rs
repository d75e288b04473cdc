// SPDX-License-Identifier: Apache-2.0
//! What is spoken on a port, and the word that whoever is inside gets when all have to go.

use tokio::sync::watch;

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The v2 protocol over HTTP/1.1.
    Http,
    /// The v2 protocol over gRPC.
    Grpc,
    /// Prometheus text over HTTP/1.1.
    Metrics,
    /// What SageMaker asks of a container.
    SageMaker,
    /// What Vertex AI asks of a container.
    VertexAi,
}

impl Protocol {
    /// The word for it in flags.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Metrics => "metrics",
            Self::SageMaker => "sagemaker",
            Self::VertexAi => "vertex_ai",
        }
    }
}

/// What an address begins with that is a file.
pub const UNIX: &str = "unix:";

/// Waits until the engine drains.
pub async fn drain_begins(draining: &mut watch::Receiver<bool>) {
    // The guard of the value must not outlive the wait, and a sender that is gone has drained too.
    let _ = draining.wait_for(|draining| *draining).await;
}
