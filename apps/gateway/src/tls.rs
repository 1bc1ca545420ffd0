//! The certificate, and what the gateway speaks under it.
//!
//! It comes from files, which are read at the start and again when they change, or is issued by an authority while the
//! gateway runs. A connection keeps what it began with; files that are no good change nothing, and are told of.

mod acme;
mod files;
mod watch;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::{ProducesTickets, ResolvesServerCertUsingSni, WebPkiClientVerifier};
use rustls::{
    ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion, WantsVerifier, version,
};
use stack_types::Timestamp;
use tokio_rustls::TlsAcceptor;

use acme::Acme;
use files::Stamp;

pub use acme::AcmeSettings;
pub(crate) use acme::CHALLENGE;
pub(crate) use files::{Pair, certificates, pair};
pub(crate) use watch::{reload, watched};

/// The gateway's name for HTTP/2 in a handshake.
pub(crate) const H2: &[u8] = b"h2";

/// A certificate and its key, checked against each other, and how they are used. Cloning shares them.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    source: Source,
    current: RwLock<Current>,
    /// What was wrong with the files when they were read last. Held for as long as one reading takes: of two, the one
    /// that began first would else have the last word.
    fault: Mutex<Option<TlsFault>>,
}

/// Where the certificate comes from.
enum Source {
    Files(Box<Files>),
    Acme(Box<Acme>),
    /// Nobody has looked.
    Unread,
}

struct Files {
    read: Mutex<ReadFrom>,
    provider: Arc<CryptoProvider>,
    /// Makes session tickets, with keys of its own that change every few hours. It outlives the certificate, since a
    /// client that comes back has no use for a new one.
    tickets: Arc<dyn ProducesTickets>,
}

/// Where the certificate is read from.
#[derive(Clone)]
struct ReadFrom {
    settings: TlsSettings,
    /// The files as they were when they were read last, whatever came of that.
    tried: Stamp,
}

struct Current {
    config: Arc<ServerConfig>,
    /// When the certificate ends, where that is known.
    not_after: Option<Timestamp>,
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
    /// What is spoken.
    pub spoken: Spoken,
}

/// What is spoken.
#[derive(Debug, Clone, Copy)]
pub struct Spoken {
    /// The oldest version of TLS.
    pub min_version: TlsVersion,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

impl Default for Spoken {
    fn default() -> Self {
        Self {
            min_version: TlsVersion::default(),
            http2: true,
        }
    }
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
    /// With that by which the authority is known.
    AcmeCa(String),
}

impl TlsFault {
    /// The setting that names the file, and what is wrong with it.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Cert(reason) => ("tls.cert", reason),
            Self::Key(reason) => ("tls.key", reason),
            Self::ClientCa(reason) => ("tls.client_ca", reason),
            Self::AcmeCa(reason) => ("tls.acme.ca", reason),
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
            spoken: Spoken::default(),
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
        let files = Files {
            read: Mutex::new(ReadFrom { settings, tried }),
            provider,
            tickets,
        };
        Ok(Self(Arc::new(Inner {
            source: Source::Files(Box::new(files)),
            current: RwLock::new(current),
            fault: Mutex::default(),
        })))
    }

    /// Lets an authority issue the certificate. Until it has, nobody can shake hands; it is asked when the gateway
    /// runs.
    ///
    /// # Errors
    /// The way to the authority cannot be made.
    pub fn acme(settings: AcmeSettings, spoken: Spoken) -> Result<Self, TlsFault> {
        let provider = Arc::new(default_provider());
        let acme = Acme::new(settings, &provider)?;
        let mut config = builder(&provider, spoken)?
            .with_no_client_auth()
            .with_cert_resolver(acme.resolver.clone());
        set_up(&mut config, spoken, new_tickets()?);
        config.alpn_protocols.push(CHALLENGE.to_vec());
        Ok(Self(Arc::new(Inner {
            source: Source::Acme(Box::new(acme)),
            current: RwLock::new(Current {
                config: Arc::new(config),
                not_after: None,
            }),
            fault: Mutex::default(),
        })))
    }

    /// That there is a certificate, for those who do not serve: nothing is read, and nobody could shake hands.
    ///
    /// # Errors
    /// As [`Tls::acme`].
    pub(crate) fn unread(spoken: Spoken) -> Result<Self, TlsFault> {
        let config = builder(&Arc::new(default_provider()), spoken)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        Ok(Self(Arc::new(Inner {
            source: Source::Unread,
            current: RwLock::new(Current {
                config: Arc::new(config),
                not_after: None,
            }),
            fault: Mutex::default(),
        })))
    }

    /// Reads the files again, for connections from now on. One that an authority issues comes by itself.
    ///
    /// # Errors
    /// As [`Tls::open`]; then everything stays as it is.
    pub fn reload(&self) -> Result<(), TlsFault> {
        let mut fault = self.0.fault.lock();
        let read = self.read_again();
        *fault = read.as_ref().err().cloned();
        read
    }

    /// What was wrong with the files when they were read last.
    fn fault(&self) -> Option<TlsFault> {
        self.0.fault.lock().clone()
    }

    fn read_again(&self) -> Result<(), TlsFault> {
        let Source::Files(files) = &self.0.source else {
            return Ok(());
        };
        let settings = {
            let mut read = files.read.lock();
            // Taken before the files are read: what changes meanwhile is a change still.
            read.tried = Stamp::of(&read.settings);
            read.settings.clone()
        };
        // A ticket tells whose certificate was checked before; with other issuers that is to be checked anew.
        let tickets = match settings.client_ca {
            Some(_) => new_tickets()?,
            None => files.tickets.clone(),
        };
        let current = read(&settings, &files.provider, &tickets)?;
        *self.0.current.write() = current;
        Ok(())
    }

    /// Takes what the other one was made of, for connections from now on: other files, or other ways to speak. Says
    /// whether it could: only where both are of files.
    pub(crate) fn adopt(&self, other: &Self) -> bool {
        let (Source::Files(own), Source::Files(new)) = (&self.0.source, &other.0.source) else {
            return false;
        };
        let mut fault = self.0.fault.lock();
        *fault = None;
        let read = new.read.lock().clone();
        let (mut config, not_after) = {
            let current = other.0.current.read();
            (ServerConfig::clone(&current.config), current.not_after)
        };
        // Clients that come back are known by their tickets; but not where certificates of theirs are checked, see
        // `reload`.
        if read.settings.client_ca.is_none() {
            config.ticketer = own.tickets.clone();
        }
        *own.read.lock() = read;
        *self.0.current.write() = Current {
            config: Arc::new(config),
            not_after,
        };
        true
    }

    /// When the certificate ends, where that is known.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        self.0.current.read().not_after
    }

    /// Shakes hands with a connection that begins now.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.current.read().config.clone())
    }

    /// The files as they are now, if they are not as they were when they were read last.
    fn changed(&self) -> Option<Stamp> {
        let Source::Files(files) = &self.0.source else {
            return None;
        };
        let read = files.read.lock().clone();
        let now = Stamp::of(&read.settings);
        (now != read.tried).then_some(now)
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
    } = pair(cert, key)?;
    let builder = builder(provider, settings.spoken)?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let told = |error: &dyn fmt::Display| {
                TlsFault::ClientCa(format!("{}: {error}", path.display()))
            };
            let mut roots = RootCertStore::empty();
            for cert in certificates(path).map_err(TlsFault::ClientCa)? {
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
    set_up(&mut config, settings.spoken, tickets.clone());
    Ok(Current {
        config: Arc::new(config),
        not_after: Some(not_after),
    })
}

fn builder(
    provider: &Arc<CryptoProvider>,
    spoken: Spoken,
) -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, TlsFault> {
    let versions: &[&SupportedProtocolVersion] = match spoken.min_version {
        TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12],
        TlsVersion::V1_3 => &[&version::TLS13],
    };
    ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(|error| TlsFault::Key(format!("TLS cannot be set up: {error}")))
}

fn set_up(config: &mut ServerConfig, spoken: Spoken, tickets: Arc<dyn ProducesTickets>) {
    config.ticketer = tickets;
    // Clients that still speak 1.2 do not always prefer what is best; with 1.3 alone nothing is bad, and a client knows
    // what its processor is good at.
    config.ignore_client_order = spoken.min_version == TlsVersion::V1_2;
    if spoken.http2 {
        config.alpn_protocols.push(H2.to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}
