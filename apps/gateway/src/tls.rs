//! The certificate, and what the gateway speaks under it.
//!
//! The files are read at the start and again when they change. A connection keeps what it began with; files that are
//! no good change nothing, and are told of.

mod files;
mod watch;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::{ProducesTickets, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use stack_types::Timestamp;
use tokio_rustls::TlsAcceptor;

use files::{Pair, Stamp};

pub(crate) use watch::watch;

/// The gateway's name for HTTP/2 in a handshake.
pub(crate) const H2: &[u8] = b"h2";

/// A certificate and its key, checked against each other, and how they are used. Cloning shares them.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    settings: TlsSettings,
    provider: Arc<CryptoProvider>,
    /// Makes session tickets, with keys of its own that change every few hours. It outlives the certificate, since a
    /// client that comes back has no use for a new one.
    tickets: Arc<dyn ProducesTickets>,
    current: RwLock<Current>,
    /// The files as they were when they were read last, whatever came of that.
    tried: Mutex<Stamp>,
}

struct Current {
    config: Arc<ServerConfig>,
    not_after: Timestamp,
}

/// Where the certificate is, and what is spoken.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// The chain of certificates, the gateway's own first: PEM, or one certificate in DER.
    pub cert: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC1, in PEM or DER.
    pub key: PathBuf,
    /// Certificates of those who issue clients theirs; set, nobody else is let in.
    pub client_ca: Option<PathBuf>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// 1.2, with forward secrecy and authenticated ciphers only.
    V1_2,
    /// 1.3.
    #[default]
    V1_3,
}

/// What is wrong with a file, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsFault {
    /// With that of the certificates.
    Cert(String),
    /// With that of the key.
    Key(String),
    /// With that of the clients' issuers.
    ClientCa(String),
}

impl TlsFault {
    /// The setting that names the file, and what is wrong with it.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Cert(reason) => ("tls.cert", reason),
            Self::Key(reason) => ("tls.key", reason),
            Self::ClientCa(reason) => ("tls.client_ca", reason),
        }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (setting, reason) = self.parts();
        write!(f, "{setting}: {reason}")
    }
}

impl TlsSettings {
    /// These two files, and everything else at its default.
    #[must_use]
    pub fn new(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            cert: cert.into(),
            key: key.into(),
            client_ca: None,
            min_version: TlsVersion::default(),
            http2: true,
        }
    }
}

impl Tls {
    /// [`Tls::open`] of a certificate and its key, and everything else at its default.
    ///
    /// # Errors
    /// As [`Tls::open`].
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsFault> {
        Self::open(TlsSettings::new(cert, key))
    }

    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read or is not what it should be, the certificate is not valid now, or the key is not its own.
    pub fn open(settings: TlsSettings) -> Result<Self, TlsFault> {
        let provider = Arc::new(default_provider());
        let tickets = new_tickets()?;
        let tried = Stamp::of(&settings);
        let current = read(&settings, &provider, &tickets)?;
        Ok(Self(Arc::new(Inner {
            settings,
            provider,
            tickets,
            current: RwLock::new(current),
            tried: Mutex::new(tried),
        })))
    }

    /// Reads the files again, for connections from now on.
    ///
    /// # Errors
    /// As [`Tls::open`]; then everything stays as it is.
    pub fn reload(&self) -> Result<(), TlsFault> {
        let inner = &self.0;
        // Taken before the files are read: what changes meanwhile is a change still.
        *inner.tried.lock() = Stamp::of(&inner.settings);
        // A ticket tells whose certificate was checked before; with other issuers that is to be checked anew.
        let tickets = match inner.settings.client_ca {
            Some(_) => new_tickets()?,
            None => inner.tickets.clone(),
        };
        *inner.current.write() = read(&inner.settings, &inner.provider, &tickets)?;
        Ok(())
    }

    /// When the certificate ends.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.0.current.read().not_after
    }

    /// Shakes hands with a connection that begins now.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.current.read().config.clone())
    }

    /// The files as they are now, if they are not as they were when they were read last.
    fn changed(&self) -> Option<Stamp> {
        let now = Stamp::of(&self.0.settings);
        (now != *self.0.tried.lock()).then_some(now)
    }
}

fn new_tickets() -> Result<Arc<dyn ProducesTickets>, TlsFault> {
    Ticketer::new()
        .map_err(|error| TlsFault::Key(format!("session tickets cannot be made: {error}")))
}

fn read(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<Current, TlsFault> {
    let (cert, key) = (&settings.cert, &settings.key);
    let Pair {
        chain,
        private,
        not_after,
    } = files::pair(cert, key)?;
    let versions: &[&SupportedProtocolVersion] = match settings.min_version {
        TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12],
        TlsVersion::V1_3 => &[&version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|error| TlsFault::Key(format!("TLS cannot be set up: {error}")))?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let told = |error: &dyn fmt::Display| {
                TlsFault::ClientCa(format!("{}: {error}", path.display()))
            };
            let mut roots = RootCertStore::empty();
            for cert in files::certificates(path).map_err(TlsFault::ClientCa)? {
                roots.add(cert).map_err(|error| told(&error))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                    .build()
                    .map_err(|error| told(&error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, private)
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
    config.ticketer = tickets.clone();
    // Clients that still speak 1.2 do not always prefer what is best; with 1.3 alone nothing is bad, and a client knows
    // what its processor is good at.
    config.ignore_client_order = settings.min_version == TlsVersion::V1_2;
    if settings.http2 {
        config.alpn_protocols.push(H2.to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(Current {
        config: Arc::new(config),
        not_after,
    })
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}
