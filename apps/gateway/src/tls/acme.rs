//! Certificates that an authority issues by itself (ACME), for domains under which it reaches this gateway.
//!
//! The authority looks whether the domain is ours by a handshake of a protocol of its own (TLS-ALPN-01), on port 443 of
//! the domain. Who asks for that protocol gets the proof and nothing else. Account and certificate are kept in a folder,
//! so that a restart asks for nothing.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_acme::caches::DirCache;
use rustls_acme::{AcmeConfig, AcmeState, EventOk, ResolvesServerCertAcme};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_util::sync::CancellationToken;

use super::TlsFault;
use super::files;
use crate::metrics::TlsMetrics;

/// The authority's name for its protocol in a handshake.
pub(crate) const CHALLENGE: &[u8] = b"acme-tls/1";

/// Who is asked for a certificate, and for what.
#[derive(Debug, Clone)]
pub struct AcmeSettings {
    /// The names that the certificate is for.
    pub domains: Vec<String>,
    /// Where the authority writes to when something is wrong.
    pub contact: Option<String>,
    /// The authority's directory.
    pub directory: String,
    /// Certificates by which the authority itself is known, where the system does not know it.
    pub ca: Option<PathBuf>,
    /// Where account and certificate are kept.
    pub folder: PathBuf,
}

/// What gets certificates.
pub(super) struct Acme {
    pub(super) resolver: Arc<ResolvesServerCertAcme>,
    folder: PathBuf,
    /// Taken by whoever runs it.
    state: Mutex<Option<AcmeState<io::Error>>>,
}

impl Acme {
    /// Nothing is asked for before it runs.
    pub(super) fn new(
        settings: AcmeSettings,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsFault> {
        let client = client(&settings, provider).map_err(TlsFault::AcmeCa)?;
        let mut config = AcmeConfig::new_with_client_config(settings.domains, Arc::new(client))
            .directory(settings.directory)
            .cache(DirCache::new(settings.folder.clone()));
        if let Some(contact) = settings.contact {
            config = config.contact_push(format!("mailto:{contact}"));
        }
        let state = config.state();
        Ok(Self {
            resolver: state.resolver(),
            folder: settings.folder,
            state: Mutex::new(Some(state)),
        })
    }

    /// Gets certificates and renews them, until `stop`.
    pub(super) async fn run(&self, metrics: TlsMetrics, stop: CancellationToken) {
        let Some(mut state) = self.state.lock().take() else {
            return;
        };
        if let Err(error) = make_private(&self.folder) {
            let folder = self.folder.display();
            tracing::error!(%error, "certificates cannot be kept in {folder}: {error}");
        }
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = state.next() => event,
            };
            match event {
                Some(Ok(EventOk::DeployedNewCert)) => {
                    metrics.reloaded(true, None);
                    tracing::info!("a certificate was issued; connections from now on get it");
                }
                Some(Ok(EventOk::DeployedCachedCert)) => {
                    tracing::info!("the certificate that was issued before is in use");
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    metrics.reloaded(false, None);
                    tracing::error!(
                        %error,
                        "no certificate was issued, it is tried again, later each time: {error}"
                    );
                }
                None => return,
            }
        }
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acme(…)")
    }
}

/// The way to the authority.
fn client(settings: &AcmeSettings, provider: &Arc<CryptoProvider>) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let Some(ca) = &settings.ca else {
        let builder = builder.with_platform_verifier();
        return Ok(builder
            .map_err(|error| error.to_string())?
            .with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    for cert in files::certificates(ca)? {
        roots
            .add(cert)
            .map_err(|error| format!("{}: {error}", ca.display()))?;
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The library writes keys with the rights that everybody's files have.
fn make_private(folder: &PathBuf) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
