//! The way between an edge and its origin: the origin's local socket on one machine, TLS in which both ends show a
//! certificate between two.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntCounter;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use stack_ipc::edge::{Connector, EdgeServer, Stream, local};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config::{ConnectionLimits, EdgeSettings, OriginUrl};
use crate::error::StartError;
use crate::lifecycle::Lifecycle;
use crate::server::Places;
use crate::tls::{Pair, certificates, pair};

/// A handshake between two gateways takes no longer.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// The pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Handshakes at the same time, in all and of one address: there are some edges, not thousands. Places of who is
/// somewhere else are not taken by whoever opens connections and says nothing.
const HANDSHAKES: ConnectionLimits = ConnectionLimits {
    total: 64,
    per_ip: 8,
};
/// What anybody can bring about stands in the log so often at most; all of it at `debug`.
const TOLD_AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// Makes connections to the origin.
pub(super) fn connector(origin: &OriginUrl, edge: &EdgeSettings) -> Result<Connector, StartError> {
    let (host, port) = match origin {
        OriginUrl::Local(path) => return Ok(local(path.clone())),
        OriginUrl::Tls { host, port } => (host.clone(), *port),
    };
    let config = client_config(edge).map_err(StartError::EdgeTls)?;
    let name = ServerName::try_from(host.clone())
        .map_err(|_| StartError::EdgeTls(format!("{host} is no name of a server")))?;
    let tls = TlsConnector::from(Arc::new(config));
    Ok(Arc::new(move || {
        let (tls, name, host) = (tls.clone(), name.clone(), host.clone());
        Box::pin(async move {
            let tcp = TcpStream::connect((host.as_str(), port)).await?;
            tcp.set_nodelay(true)?;
            let stream = tls.connect(name, tcp).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }))
}

/// Accepts edges until the gateway drains.
pub(crate) async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    server: EdgeServer,
    refused: IntCounter,
    lifecycle: Lifecycle,
) {
    let places = Places::of(HANDSHAKES, refused);
    let told_at = Arc::new(Mutex::new(None));
    loop {
        let accepted = tokio::select! {
            biased;
            () = lifecycle.draining.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "an edge was not accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = places.take(peer.ip()) else {
            continue;
        };
        let told_at = told_at.clone();
        let (tls, server, draining) = (tls.clone(), server.clone(), lifecycle.draining.clone());
        lifecycle.connections.spawn(async move {
            let _place = place;
            let shaken = tokio::select! {
                () = draining.cancelled() => return,
                shaken = timeout(HANDSHAKE_WITHIN, tls.accept(tcp)) => shaken,
            };
            let reason = match shaken {
                Ok(Ok(stream)) => {
                    let _ = stream.get_ref().0.set_nodelay(true);
                    return server.take(stream);
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it did not shake hands in time".to_owned(),
            };
            tracing::debug!(%peer, reason, "an edge was refused: {reason}");
            let due = |at: Instant| at.elapsed() >= TOLD_AT_MOST_EVERY;
            let mut told_at = told_at.lock();
            if told_at.is_none_or(due) {
                *told_at = Some(Instant::now());
                tracing::warn!(%peer, reason, "edges were refused, the last one: {reason}");
            }
        });
    }
}

/// How the origin shows itself to edges, and whom it takes for one.
pub(crate) fn server_config(edge: &EdgeSettings) -> Result<ServerConfig, String> {
    let (cert, key, ca) = match (&edge.tls_cert, &edge.tls_key, &edge.client_ca) {
        (Some(cert), Some(key), Some(ca)) => (cert, key, ca),
        _ => {
            return Err(
                "edge.listen needs edge.tls_cert, edge.tls_key and edge.client_ca: edges are never served in the clear"
                    .into(),
            );
        }
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider.clone())
            .build()
            .map_err(|error| format!("{}: {error}", ca.display()))?;
    let (chain, key) = identity(cert, key)?;
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| format!("{}: {error}", cert.display()))
}

fn client_config(edge: &EdgeSettings) -> Result<ClientConfig, String> {
    let (cert, key, ca) = match (&edge.tls_cert, &edge.tls_key, &edge.origin_ca) {
        (Some(cert), Some(key), Some(ca)) => (cert, key, ca),
        _ => {
            return Err(
                "an origin at tls:// needs edge.tls_cert, edge.tls_key and edge.origin_ca".into(),
            );
        }
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (chain, key) = identity(cert, key)?;
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots(ca)?)
        .with_client_auth_cert(chain, key)
        .map_err(|error| format!("{}: {error}", cert.display()))
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Read like those that clients see, and as strictly.
fn identity(cert: &Path, key: &Path) -> Result<Identity, String> {
    let Pair { chain, private, .. } =
        pair(cert, key).map_err(|fault| fault.parts().1.to_owned())?;
    Ok((chain, private))
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
}
