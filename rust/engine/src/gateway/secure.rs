// SPDX-License-Identifier: Apache-2.0
//! TLS towards services that this gateway does not run: steps of graphs whose URL begins with `https://`.
//! Whom they may be is what the machine trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` say otherwise).

use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_rustls::{TlsConnector, rustls};

/// What an address begins with that is asked over TLS.
pub const TLS: &str = "https://";

static CONNECTOR: OnceLock<Result<TlsConnector, String>> = OnceLock::new();

/// Makes a connection secure; `authority` is whom it must lead to.
///
/// # Errors
/// If the peer is somebody else, or the machine trusts nobody.
pub async fn secured(stream: TcpStream, authority: &str) -> Result<TlsStream<TcpStream>, String> {
    // Reading what the machine trusts takes some milliseconds, once, when a step first needs it.
    let connector = CONNECTOR.get_or_init(connector).clone()?;
    let host = nerite_logic::gateway::headers::host_of(authority).to_owned();
    let name = ServerName::try_from(host).map_err(|why| why.to_string())?;
    let secured = connector.connect(name, stream).await;
    secured.map_err(|why| format!("TLS: {why}"))
}

fn connector() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("this machine trusts no certificates; set SSL_CERT_FILE".into());
    }
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why: rustls::Error| why.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
