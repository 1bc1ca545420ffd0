//! Certificates that an authority issues by itself (ACME), for domains under which it reaches this gateway.
//!
//! The authority looks whether the domain is ours by a handshake of a protocol of its own (TLS-ALPN-01), on port 443 of
//! the domain. Who asks for that protocol gets the proof and nothing else. Account and certificate are kept in a folder,
//! so that a restart asks for nothing.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use parking_lot::{Mutex, RwLock};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_acme::caches::DirCache;
use rustls_acme::{
    AcmeConfig, AcmeState, EventError, EventOk, ResolvesServerCertAcme, is_tls_alpn_challenge,
};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::TlsFault;
use super::files;
use crate::error::StartError;
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

/// Between two tries that fail: an authority shuts out for hours whoever asks in a hurry, and whoever asks once a day
/// may find a certificate ended that could have been had.
const PAUSE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

type State = AcmeState<io::Error>;

/// What gets certificates.
pub(super) struct Acme {
    pub(super) resolver: Arc<Resolver>,
    settings: AcmeSettings,
    client: Arc<ClientConfig>,
    /// Taken by whoever runs it.
    state: Mutex<Option<State>>,
}

impl Acme {
    /// Nothing is asked for before it runs.
    pub(super) fn new(
        settings: AcmeSettings,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsFault> {
        let client = Arc::new(client(&settings, provider).map_err(TlsFault::AcmeCa)?);
        let state = state(&settings, &client);
        Ok(Self {
            resolver: Arc::new(Resolver::new(state.resolver())),
            settings,
            client,
            state: Mutex::new(Some(state)),
        })
    }

    /// Makes the folder, or takes it from others if it is there. The library writes keys with the rights that everybody's
    /// files have.
    pub(super) fn make_folder(&self) -> Result<(), StartError> {
        let folder = &self.settings.folder;
        make_private(folder).map_err(|source| StartError::AcmeFolder {
            path: folder.clone(),
            source,
        })
    }

    /// Gets certificates and renews them, until `stop`.
    pub(super) async fn run(&self, metrics: TlsMetrics, stop: CancellationToken) {
        let Some(mut state) = self.state.lock().take() else {
            return;
        };
        *self.resolver.told.lock() = Some(metrics.clone());
        let mut pause = PAUSE;
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = state.next() => event,
            };
            match event {
                Some(Ok(EventOk::DeployedNewCert)) => {
                    pause = PAUSE;
                    metrics.reloaded(true, None);
                    tracing::info!("a certificate was issued; connections from now on get it");
                }
                Some(Ok(EventOk::DeployedCachedCert)) => {
                    tracing::info!("the certificate that was issued before is in use");
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    metrics.reloaded(false, None);
                    let seconds = pause.as_secs();
                    tracing::error!(
                        %error,
                        "no certificate was issued, it is tried again in {seconds} s: {error}"
                    );
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = sleep(pause) => {}
                    }
                    if matches!(error, EventError::Order(_) | EventError::NewCertParse(_)) {
                        pause = (pause * 2).min(LONGEST_PAUSE);
                        // A new one: this one would wait by itself as well, in the end for most of a day.
                        state = self::state(&self.settings, &self.client);
                        self.resolver.set(state.resolver());
                    }
                }
                None => return,
            }
        }
    }
}

/// Something that asks. It begins with what is in the folder.
fn state(settings: &AcmeSettings, client: &Arc<ClientConfig>) -> State {
    let mut config = AcmeConfig::new_with_client_config(&settings.domains, client.clone())
        .directory(&settings.directory)
        .cache(DirCache::new(settings.folder.clone()));
    if let Some(contact) = &settings.contact {
        config = config.contact_push(format!("mailto:{contact}"));
    }
    config.state()
}

/// Finds the certificate for a handshake: that of who asks now, or else the one that was shown last.
pub(super) struct Resolver {
    asks: RwLock<Arc<ResolvesServerCertAcme>>,
    shown: RwLock<Option<Arc<CertifiedKey>>>,
    /// Who is told when the certificate ends.
    told: Mutex<Option<TlsMetrics>>,
}

impl Resolver {
    fn new(asks: Arc<ResolvesServerCertAcme>) -> Self {
        Self {
            asks: RwLock::new(asks),
            shown: RwLock::default(),
            told: Mutex::default(),
        }
    }

    fn set(&self, asks: Arc<ResolvesServerCertAcme>) {
        *self.asks.write() = asks;
    }

    fn show(&self, found: Option<Arc<CertifiedKey>>) -> Option<Arc<CertifiedKey>> {
        let shown = self.shown.read().clone();
        let Some(found) = found else {
            return shown;
        };
        if shown.is_none_or(|shown| !Arc::ptr_eq(&shown, &found)) {
            let own = found.cert.first();
            let not_after = own.and_then(|own| files::valid_until(own).ok());
            if let Some(told) = &*self.told.lock() {
                told.set(not_after);
            }
            *self.shown.write() = Some(found.clone());
        }
        Some(found)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_challenge = is_tls_alpn_challenge(&hello);
        let found = self.asks.read().resolve(hello);
        if is_challenge {
            return found;
        }
        self.show(found)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver(…)")
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

fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    // It may have been there before.
    #[cfg(unix)]
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    /// An authority that is not there.
    fn nobody(folder: &Path) -> Acme {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = closed.local_addr().unwrap().port();
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let ca = folder.join("ca.pem");
        fs::write(&ca, pair.cert.pem()).unwrap();
        let settings = AcmeSettings {
            domains: vec!["chat.example.com".to_owned()],
            contact: None,
            directory: format!("https://localhost:{port}/directory"),
            ca: Some(ca),
            folder: folder.join("acme"),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Acme::new(settings, &provider).unwrap()
    }

    #[tokio::test]
    async fn a_try_that_fails_is_counted_and_the_pause_behind_it_ends_with_the_gateway() {
        let folder = tempfile::tempdir().unwrap();
        let acme = nobody(folder.path());
        let metrics = Metrics::new().unwrap().tls(None).unwrap();
        let stop = CancellationToken::new();
        let failed = async {
            while metrics.failures() == 0 {
                sleep(Duration::from_millis(10)).await;
            }
            stop.cancel();
        };
        let run = acme.run(metrics.clone(), stop.clone());
        let patience = Duration::from_secs(60);
        let both = async { tokio::join!(run, failed) };
        tokio::time::timeout(patience, both).await.unwrap();
        assert_eq!(metrics.failures(), 1);
        assert!(acme.resolver.show(None).is_none());
    }

    #[test]
    fn the_certificate_that_was_shown_last_stays_until_there_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let acme = nobody(folder.path());
        let key = || {
            let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let private = pair.signing_key.serialize_der().try_into().unwrap();
            let private = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private);
            let chain = vec![pair.cert.der().clone()];
            Arc::new(CertifiedKey::new(chain, private.unwrap()))
        };
        for key in [key(), key()] {
            let shown = acme.resolver.show(Some(key.clone())).unwrap();
            assert!(Arc::ptr_eq(&shown, &key));
            assert!(Arc::ptr_eq(&acme.resolver.show(None).unwrap(), &key));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_is_open_to_others_is_taken_from_them() {
        use std::os::unix::fs::PermissionsExt as _;

        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/acme");
        make_private(&folder).unwrap();
        let mode = || fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o700);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        make_private(&folder).unwrap();
        assert_eq!(mode(), 0o700);
        fs::write(parent.path().join("file"), "").unwrap();
        make_private(&parent.path().join("file")).unwrap_err();
    }
}
