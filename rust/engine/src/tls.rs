// SPDX-License-Identifier: Apache-2.0
//! TLS on a port: files become a configuration, again when they change, and sockets become streams.
//!
//! Certificates are renewed under a running server (by cert-manager, say), so the files are looked at when a
//! connection comes, at most once a second. Files that cannot be used leave the configuration as it is.

use std::fs::{File, metadata};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use nerite_logic::Error;
use parking_lot::Mutex;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, rustls};

use crate::door::Protocol;

/// How often files are looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// PEM files of a port.
#[derive(Clone, Debug)]
pub struct Files {
    /// The server's certificate, and those between it and its root.
    pub certificate: PathBuf,
    /// The key that belongs to it.
    pub key: PathBuf,
    /// The roots that clients' certificates must lead to; without them clients need none.
    pub roots: Option<PathBuf>,
}

/// TLS as one port speaks it.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    protocol: Protocol,
    config: ArcSwap<ServerConfig>,
    seen: Mutex<Seen>,
}

/// When the files were looked at, and how old they were.
#[derive(Debug)]
struct Seen {
    looked: Instant,
    changed: Vec<Option<SystemTime>>,
}

impl Tls {
    /// Reads the files of a port.
    ///
    /// # Errors
    /// With flag and file, if one of them is of no use.
    pub fn open(files: Files, protocol: Protocol) -> Result<Self, Error> {
        let changed = files.changed();
        let config = files.configuration(protocol)?;
        Ok(Self {
            files,
            protocol,
            config: ArcSwap::from_pointee(config),
            seen: Mutex::new(Seen {
                looked: Instant::now(),
                changed,
            }),
        })
    }

    /// Reads the files again if they have changed.
    ///
    /// # Errors
    /// Why the changed ones are of no use; those of before stay in use.
    pub fn look(&self) -> Result<(), Error> {
        {
            let mut seen = self.seen.lock();
            if seen.looked.elapsed() < LOOK {
                return Ok(());
            }
            seen.looked = Instant::now();
            let changed = self.files.changed();
            if changed == seen.changed {
                return Ok(());
            }
            seen.changed = changed;
        }
        let config = self.files.configuration(self.protocol)?;
        self.config.store(Arc::new(config));
        Ok(())
    }

    /// A stream on which the peer has proved what it must; `None` if it did not, or not within `limit`.
    pub async fn accept<S>(&self, stream: S, limit: Duration) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let accepted = tokio::time::timeout(limit, acceptor.accept(stream)).await;
        accepted.ok()?.ok()
    }
}

impl Files {
    fn changed(&self) -> Vec<Option<SystemTime>> {
        let age = |path: &PathBuf| metadata(path).and_then(|it| it.modified()).ok();
        let all = [
            Some(&self.certificate),
            Some(&self.key),
            self.roots.as_ref(),
        ];
        all.into_iter().flatten().map(age).collect()
    }

    fn configuration(&self, protocol: Protocol) -> Result<ServerConfig, Error> {
        let port = protocol.name();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|why| Error::internal(format!("TLS is not to be had: {why}")))?;
        let builder = match &self.roots {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let flag = format!("--{port}-root-cert");
                let unusable = |why: String| useless(&flag, path, &why);
                let mut roots = RootCertStore::empty();
                for root in certificates(&flag, path)? {
                    roots.add(root).map_err(|why| unusable(why.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                let verifier = verifier.build();
                builder.with_client_cert_verifier(
                    verifier.map_err(|why: VerifierBuilderError| unusable(why.to_string()))?,
                )
            }
        };
        let chain = certificates(&format!("--{port}-server-cert"), &self.certificate)?;
        let flag = format!("--{port}-server-key");
        let key = key(&flag, &self.key)?;
        let mut config = builder.with_single_cert(chain, key).map_err(|why| {
            let with = self.certificate.display();
            useless(
                &flag,
                &self.key,
                &format!("with certificate '{with}': {why}"),
            )
        })?;
        config.alpn_protocols = vec![match protocol {
            Protocol::Grpc => b"h2".to_vec(),
            _ => b"http/1.1".to_vec(),
        }];
        Ok(config)
    }
}

fn useless(flag: &str, path: &Path, why: &str) -> Error {
    Error::invalid(format!("{flag}: '{}' is not usable: {why}", path.display()))
}

fn open(flag: &str, path: &Path) -> Result<BufReader<File>, Error> {
    let opened = File::open(path).and_then(|file| match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a file")),
    });
    match opened {
        Ok(file) => Ok(BufReader::new(file)),
        Err(why) => Err(useless(flag, path, &why.to_string())),
    }
}

fn certificates(flag: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, pem::Error> =
        CertificateDer::pem_reader_iter(open(flag, path)?).collect();
    let found = read.map_err(|why| useless(flag, path, &format!("it is no PEM file: {why}")))?;
    match found.is_empty() {
        true => Err(useless(flag, path, "it holds no certificate in PEM form")),
        false => Ok(found),
    }
}

fn key(flag: &str, path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_reader(open(flag, path)?).map_err(|why| match why {
        pem::Error::NoItemsFound => {
            let text = "it holds no private key in PEM form without a password";
            useless(flag, path, text)
        }
        why => useless(flag, path, &format!("it is no PEM file: {why}")),
    })
}
