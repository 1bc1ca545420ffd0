//! The certificate, and what the gateway speaks under it: TLS 1.3 and HTTP/1.1.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, version};
use tokio_rustls::TlsAcceptor;

/// A certificate and its key, checked against each other. Cloning shares them.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

/// What is wrong with a certificate or its key, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsFault {
    /// Of the certificates.
    Cert(String),
    /// Of the key.
    Key(String),
}

impl Tls {
    /// Reads a chain of certificates, the gateway's own first, and its private key, both in PEM.
    ///
    /// # Errors
    /// A file cannot be read or is not what it should be, or the two do not belong together.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsFault> {
        let chain = CertificateDer::pem_file_iter(cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| TlsFault::Cert(told(cert, &error)))?;
        if chain.is_empty() {
            let reason = format!("{} has no certificate in PEM", cert.display());
            return Err(TlsFault::Cert(reason));
        }
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| {
            TlsFault::Key(match error {
                pem::Error::NoItemsFound => {
                    format!("{} has no private key in PEM", key.display())
                }
                error => told(key, &error),
            })
        })?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .and_then(|builder| {
                let builder = builder.with_no_client_auth();
                builder.with_single_cert(chain, private)
            })
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => TlsFault::Key(format!(
                    "{} is not the key of the certificate in {}",
                    key.display(),
                    cert.display()
                )),
                rustls::Error::InvalidCertificate(_) => {
                    TlsFault::Cert(format!("{}: {error}", cert.display()))
                }
                error => TlsFault::Key(format!("{}: {error}", key.display())),
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.clone())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}

fn told(path: &Path, error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => format!("{} cannot be read: {error}", path.display()),
        error => format!("{} is not PEM: {error}", path.display()),
    }
}
