//! The way between an edge and its origin: the origin's local socket on one machine, TLS in which both ends show a
//! certificate between two.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use stack_ipc::edge::{Connector, EdgeServer, Stream, local};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config::{EdgeSettings, OriginUrl};
use crate::error::StartError;
use crate::lifecycle::Lifecycle;

/// A handshake between two gateways takes no longer.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// The pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Handshakes at the same time: there are some edges, not thousands.
const HANDSHAKES: usize = 64;

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
    lifecycle: Lifecycle,
) {
    let places = Arc::new(tokio::sync::Semaphore::new(HANDSHAKES));
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
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(%peer, "too many edges shake hands at once");
            continue;
        };
        let (tls, server, draining) = (tls.clone(), server.clone(), lifecycle.draining.clone());
        lifecycle.connections.spawn(async move {
            let _place = place;
            let shaken = tokio::select! {
                () = draining.cancelled() => return,
                shaken = timeout(HANDSHAKE_WITHIN, tls.accept(tcp)) => shaken,
            };
            match shaken {
                Ok(Ok(stream)) => {
                    let _ = stream.get_ref().0.set_nodelay(true);
                    server.take(stream);
                }
                Ok(Err(error)) => {
                    tracing::warn!(%peer, %error, "an edge was refused: {error}");
                }
                Err(_) => tracing::warn!(%peer, "an edge did not shake hands in time"),
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

fn identity(cert: &Path, key: &Path) -> Result<Identity, String> {
    let chain = certificates(cert)?;
    let key =
        PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
    Ok((chain, key))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| format!("{}: {error}", path.display()))?;
    if read.is_empty() {
        return Err(format!("{} has no certificate in PEM", path.display()));
    }
    Ok(read)
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
