//! The settings of TLS, which only make sense together.

use std::path::PathBuf;

use super::endpoint::Endpoint;
use super::layers::Reader;
use super::value::{ListOf, Origin, Setting};
use crate::tls::{Tls, TlsSettings, TlsVersion};

impl Setting for TlsVersion {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "1.2" => Ok(Self::V1_2),
            "1.3" => Ok(Self::V1_3),
            _ => Err(format!("\"{text}\" is neither 1.2 nor 1.3")),
        }
    }
}

/// The certificate, read and checked, and where plain HTTP is sent to it. One file without the other would mean plain
/// text where somebody asked for TLS.
pub(super) fn read(
    reader: &mut Reader,
    public_url: Option<&Origin>,
) -> (Option<Tls>, Vec<Endpoint>) {
    let cert = reader.get_set::<PathBuf>("tls.cert");
    let key = reader.get_set::<PathBuf>("tls.key");
    let min_version = reader.get("tls.min_version");
    let http2 = reader.get("tls.http2");
    let client_ca = reader.get_set::<PathBuf>("tls.client_ca");
    let redirects = reader.get::<ListOf<Endpoint>>("tls.redirect_listen").0;
    if redirects.iter().any(|endpoint| endpoint.tcp().is_none()) {
        let reason = "a browser is not sent on from a Unix socket";
        reader.fault("tls.redirect_listen", reason.into());
    }
    let (cert, key) = match (cert, key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => {
            for (path, set) in [
                ("tls.client_ca", client_ca.is_some()),
                ("tls.redirect_listen", !redirects.is_empty()),
            ] {
                if set {
                    reader.fault(path, "there is no TLS: tls.cert is not set".into());
                }
            }
            return (None, Vec::new());
        }
        (Some(_), None) => {
            reader.fault("tls.cert", "tls.key is not set".into());
            return (None, Vec::new());
        }
        (None, Some(_)) => {
            reader.fault("tls.key", "tls.cert is not set".into());
            return (None, Vec::new());
        }
    };
    if public_url.is_some_and(|url| !url.is_https()) {
        let reason = "plain HTTP cannot reach a gateway that speaks TLS (tls.cert is set)";
        reader.fault("public_url", reason.into());
    }
    let loaded = Tls::open(TlsSettings {
        cert,
        key,
        client_ca,
        min_version,
        http2,
    });
    match loaded {
        Ok(tls) => (Some(tls), redirects),
        Err(fault) => {
            let (path, reason) = fault.parts();
            reader.fault(path, reason.to_owned());
            (None, redirects)
        }
    }
}
