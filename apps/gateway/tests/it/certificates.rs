//! Certificates: those that are swapped while the gateway runs, tickets, and clients that show one of their own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedKey, IsCa, Issuer, KeyPair, date_time_ymd,
};
use serde_json::json;
use stack_gateway::{Tls, TlsFault, TlsSettings, TlsVersion};
use stack_testkit::{PASSWORD, PATIENCE, Socket, TestGateway};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{
    ClientConfig, HandshakeKind, NamedGroup, ProtocolVersion, RootCertStore, version,
};

use crate::reload::{File, applied};

/// The files of a certificate, which change.
struct Files {
    folder: TempDir,
    settings: TlsSettings,
}

type SelfSigned = CertifiedKey<KeyPair>;

fn pair() -> SelfSigned {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

impl Files {
    fn of(pair: &SelfSigned) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = TlsSettings::new(folder.path().join("cert"), folder.path().join("key"));
        let files = Self { folder, settings };
        files.write(pair);
        files
    }

    fn write(&self, pair: &SelfSigned) {
        std::fs::write(&self.settings.cert, pair.cert.pem()).unwrap();
        std::fs::write(&self.settings.key, pair.signing_key.serialize_pem()).unwrap();
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    async fn gateway(&self) -> TestGateway {
        let tls = Tls::open(self.settings.clone()).unwrap();
        TestGateway::with(|config| config.tls = Some(tls)).await
    }
}

/// A client that trusts these and shows a certificate of its own, if it has one.
fn client(
    trusted: &[&SelfSigned],
    own: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    oldest: ProtocolVersion,
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for pair in trusted {
        roots.add(pair.cert.der().clone()).unwrap();
    }
    let versions = match oldest {
        ProtocolVersion::TLSv1_2 => vec![&version::TLS12],
        _ => vec![&version::TLS13],
    };
    let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        Some((cert, key)) => builder.with_client_auth_cert(vec![cert], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    TlsConnector::from(Arc::new(config))
}

async fn try_connect(
    gateway: &TestGateway,
    client: &TlsConnector,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(gateway.addr()).await.unwrap();
    let name = "localhost".try_into().unwrap();
    timeout(PATIENCE, client.connect(name, stream))
        .await
        .unwrap()
}

/// What is answered to a request. Reading is also what takes in the tickets.
async fn ask(stream: &mut TlsStream<TcpStream>, head: &str, body: &str) -> std::io::Result<String> {
    let request = format!(
        "{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap()?;
    Ok(answer)
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

async fn metric(gateway: &TestGateway, client: &TlsConnector, name: &str) -> u64 {
    let mut stream = try_connect(gateway, client).await.unwrap();
    let text = ask(&mut stream, "GET /metrics", "").await.unwrap();
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
    values.next().unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_certificate_is_swapped_under_open_sockets() {
    const SOCKETS: usize = 200;
    const USERS: usize = 10;
    let (old, new) = (pair(), pair());
    let files = Files::of(&old);
    let gateway = files.gateway().await;
    let both = client(&[&old, &new], None, ProtocolVersion::TLSv1_3);
    let mut sockets = Vec::new();
    for user in 0..USERS {
        let body = json!({ "username": format!("user{user}"), "password": PASSWORD, "token_delivery": "body" });
        let mut stream = try_connect(&gateway, &both).await.unwrap();
        let answer = ask(&mut stream, "POST /api/v1/auth/register", &body.to_string()).await;
        let answer = answer.unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let token = format!("Bearer {}", body["access_token"].as_str().unwrap());
        for _ in 0..SOCKETS / USERS {
            let stream = try_connect(&gateway, &both).await.unwrap();
            assert_eq!(&shown(&stream), old.cert.der());
            let headers = [("authorization", &*token)];
            let socket = Socket::over(stream, gateway.addr(), "/ws", &headers).await;
            sockets.push(socket.unwrap());
        }
    }

    // Nobody tells the gateway: it looks for itself.
    files.write(&new);
    let start = Instant::now();
    loop {
        // One that has no ticket yet, and so is shown a certificate.
        let fresh = client(&[&old, &new], None, ProtocolVersion::TLSv1_3);
        let stream = try_connect(&gateway, &fresh).await.unwrap();
        if &shown(&stream) == new.cert.der() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "the old one is still shown");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    for socket in &mut sockets {
        socket.ok("ping", json!({})).await;
    }
    assert_eq!(metric(&gateway, &both, "stack_tls_reloads_total ").await, 1);
    assert_eq!(
        metric(&gateway, &both, "stack_sockets ").await,
        SOCKETS as u64
    );
}

#[tokio::test]
async fn a_changed_certificate_that_is_no_good_changes_nothing_but_a_count() {
    let (old, new) = (pair(), pair());
    let files = Files::of(&old);
    let gateway = files.gateway().await;
    let trusting = client(&[&old], None, ProtocolVersion::TLSv1_3);
    let mut expected = 0;
    for broken in [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        &new.cert.pem(),
    ] {
        std::fs::write(&files.settings.cert, broken).unwrap();
        gateway.reload().await.unwrap();
        expected += 1;
        let failures = "stack_tls_reload_failures_total ";
        assert_eq!(metric(&gateway, &trusting, failures).await, expected);
        let stream = try_connect(&gateway, &trusting).await.unwrap();
        assert_eq!(&shown(&stream), old.cert.der());
    }
    // With the key of the new one, the last file is good.
    files.write(&new);
    gateway.reload().await.unwrap();
    let trusting = client(&[&new], None, ProtocolVersion::TLSv1_3);
    assert!(try_connect(&gateway, &trusting).await.is_ok());
}

#[test]
fn certificates_and_keys_are_taken_as_der_too() {
    let pair = pair();
    let files = Files::of(&pair);
    let cert = files.file("cert.der", pair.cert.der());
    let key = files.file("key.der", pair.signing_key.serialize_der());
    assert!(Tls::load(&cert, &key).is_ok());
    assert!(matches!(Tls::load(&key, &key), Err(TlsFault::Cert(_))));
    assert!(matches!(Tls::load(&cert, &cert), Err(TlsFault::Key(_))));
}

#[test]
fn a_certificate_is_good_now_or_is_none() {
    let key = KeyPair::generate().unwrap();
    for (from, until, reason) in [
        (2019, 2020, "has ended on"),
        (2999, 3000, "is not good before"),
    ] {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let cert = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (cert_path, key_path) = (folder.path().join("cert"), folder.path().join("key"));
        std::fs::write(&cert_path, cert.pem()).unwrap();
        std::fs::write(&key_path, key.serialize_pem()).unwrap();
        let fault = Tls::load(&cert_path, &key_path).unwrap_err();
        let TlsFault::Cert(told) = fault else {
            panic!("{fault}");
        };
        assert!(told.contains(reason), "{told}");
    }
}

#[tokio::test]
async fn a_client_that_comes_back_resumes_by_ticket_and_the_hybrid_group_is_preferred() {
    let pair = pair();
    let mut files = Files::of(&pair);
    files.settings.spoken.min_version = TlsVersion::V1_2;
    let gateway = files.gateway().await;
    for version in [ProtocolVersion::TLSv1_3, ProtocolVersion::TLSv1_2] {
        let client = client(&[&pair], None, version);
        let mut first = try_connect(&gateway, &client).await.unwrap();
        let session = first.get_ref().1;
        assert_eq!(session.protocol_version(), Some(version));
        assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full));
        if version == ProtocolVersion::TLSv1_3 {
            let group = session.negotiated_key_exchange_group().unwrap();
            assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
        }
        ask(&mut first, "GET /ping", "").await.unwrap();
        // The certificate may have been renewed meanwhile.
        gateway.reload().await.unwrap();
        let mut second = try_connect(&gateway, &client).await.unwrap();
        let kind = second.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Resumed));
        let answer = ask(&mut second, "GET /ping", "").await.unwrap();
        assert!(answer.ends_with("pong"));
    }
}

#[tokio::test]
async fn tls_1_2_is_spoken_only_where_it_is_asked_for() {
    let pair = pair();
    let gateway = Files::of(&pair).gateway().await;
    let old = client(&[&pair], None, ProtocolVersion::TLSv1_2);
    let error = try_connect(&gateway, &old).await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    let new = client(&[&pair], None, ProtocolVersion::TLSv1_3);
    let failed = "stack_tls_handshakes_failed_total ";
    assert_eq!(metric(&gateway, &new, failed).await, 1);
}

#[tokio::test]
async fn with_an_issuer_of_clients_nobody_else_is_let_in() {
    let issued_by = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(["client".to_owned()])
            .unwrap()
            .signed_by(&own, &issuer)
            .unwrap();
        let key = PrivateKeyDer::try_from(own.serialize_der()).unwrap();
        (root, cert.der().clone(), key)
    };
    let pair = pair();
    let mut files = Files::of(&pair);
    let (root, cert, key) = issued_by("ours");
    let (_, other_cert, other_key) = issued_by("other");
    files.settings.client_ca = Some(files.file("client-ca", root.pem()));
    let gateway = files.gateway().await;
    let known = client(&[&pair], Some((cert, key)), ProtocolVersion::TLSv1_3);
    // A ticket stands for a certificate that was checked, and holds until the issuers are read again.
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut stream = try_connect(&gateway, &known).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind));
        let answer = ask(&mut stream, "GET /ping", "").await.unwrap();
        assert!(answer.ends_with("pong"));
    }
    gateway.reload().await.unwrap();
    let stream = try_connect(&gateway, &known).await.unwrap();
    let kind = stream.get_ref().1.handshake_kind();
    assert_eq!(kind, Some(HandshakeKind::Full));
    for own in [None, Some((other_cert, other_key))] {
        let stranger = client(&[&pair], own, ProtocolVersion::TLSv1_3);
        // The client is through before the gateway has looked at what it shows.
        let refused = match try_connect(&gateway, &stranger).await {
            Ok(mut stream) => ask(&mut stream, "GET /ping", "").await.err(),
            Err(error) => Some(error),
        };
        assert!(refused.is_some());
    }
    files.settings.client_ca = Some(files.file("client-ca", "nothing"));
    let fault = Tls::open(files.settings.clone()).unwrap_err();
    assert!(matches!(fault, TlsFault::ClientCa(_)), "{fault}");
}

#[tokio::test]
async fn other_files_and_other_ways_to_speak_are_taken_by_a_reload() {
    let (one, other) = (pair(), pair());
    let file = File::of("");
    let named = |name: &str, pair: &SelfSigned| {
        let cert = file.beside(&format!("{name}.pem"), &pair.cert.pem());
        let key = file.beside(&format!("{name}.key"), &pair.signing_key.serialize_pem());
        format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n")
    };
    let (of_one, of_other) = (named("one", &one), named("other", &other));
    file.write(&of_one);
    let gateway = file.gateway().await;
    let newest = client(&[&one, &other], None, ProtocolVersion::TLSv1_3);
    let older = client(&[&one, &other], None, ProtocolVersion::TLSv1_2);
    let answers = async |client: &TlsConnector| {
        let mut stream = try_connect(&gateway, client).await?;
        ask(&mut stream, "GET /ping", "").await.map(|_| stream)
    };
    let stream = answers(&newest).await.unwrap();
    assert_eq!(&shown(&stream), one.cert.der());
    assert!(answers(&older).await.is_err());

    file.write(&of_other);
    let changes = gateway.reload().await.unwrap();
    assert_eq!(changes, applied(&["tls.cert", "tls.key"]));
    // Who comes back with a ticket is known all the same.
    let stream = answers(&newest).await.unwrap();
    let kind = stream.get_ref().1.handshake_kind();
    assert_eq!(kind, Some(HandshakeKind::Resumed));
    let fresh = client(&[&one, &other], None, ProtocolVersion::TLSv1_3);
    let stream = answers(&fresh).await.unwrap();
    assert_eq!(&shown(&stream), other.cert.der());

    file.write(&format!("{of_other}min_version = \"1.2\"\nhttp2 = false\n"));
    let changes = gateway.reload().await.unwrap();
    assert_eq!(changes, applied(&["tls.min_version", "tls.http2"]));
    assert!(answers(&older).await.is_ok());
    let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    let mut roots = RootCertStore::empty();
    roots.add(other.cert.der().clone()).unwrap();
    let mut speaks_both = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    speaks_both.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let speaks_both = TlsConnector::from(Arc::new(speaks_both));
    let stream = try_connect(&gateway, &speaks_both).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));

    // Whoever was let in without a certificate has no ticket that is good now.
    let ca = file.beside("ca.pem", &one.cert.pem());
    file.write(&format!("{of_other}client_ca = {ca:?}\n"));
    let changes = gateway.reload().await.unwrap();
    let expected = ["tls.min_version", "tls.http2", "tls.client_ca"];
    assert_eq!(changes, applied(&expected));
    assert!(answers(&newest).await.is_err());
    assert!(answers(&fresh).await.is_err());

    // The files are no good, and so nothing is.
    file.write(&of_one);
    std::fs::write(file_of(&of_one), "").unwrap();
    let faults = gateway.reload().await.unwrap_err();
    assert_eq!(faults.0[0].key, "tls.cert");
    assert!(answers(&fresh).await.is_err());
    file.write(&of_other);
    assert_eq!(gateway.reload().await.unwrap(), applied(&["tls.client_ca"]));
    let failures = "stack_tls_reload_failures_total ";
    assert_eq!(metric(&gateway, &fresh, failures).await, 1);

    // It stays a gateway with TLS until it is started anew.
    file.write("");
    let changes = gateway.reload().await.unwrap();
    assert!(!changes.is_empty() && changes.iter().all(|change| !change.applied));
    assert!(answers(&fresh).await.is_ok());
}

/// The certificate's file that these settings name.
fn file_of(settings: &str) -> PathBuf {
    let settings: toml::Table = settings.parse().unwrap();
    settings["tls"]["cert"].as_str().unwrap().into()
}
