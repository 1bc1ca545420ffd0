//! The settings of TLS, which only make sense together.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use http::Uri;

use super::endpoint::Endpoint;
use super::layers::Reader;
use super::value::{ListOf, Origin, Setting};
use crate::tls::{AcmeSettings, Spoken, Tls, TlsSettings, TlsVersion};

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
    data_dir: &Path,
) -> (Option<Tls>, Vec<Endpoint>) {
    let cert = reader.get_set::<PathBuf>("tls.cert");
    let key = reader.get_set::<PathBuf>("tls.key");
    let spoken = Spoken {
        min_version: reader.get("tls.min_version"),
        http2: reader.get("tls.http2"),
    };
    let client_ca = reader.get_set::<PathBuf>("tls.client_ca");
    let acme = read_acme(reader, data_dir);
    let redirects = reader.get::<ListOf<Endpoint>>("tls.redirect_listen").0;
    if redirects.iter().any(|endpoint| endpoint.tcp().is_none()) {
        let reason = "a browser is not sent on from a Unix socket";
        reader.fault("tls.redirect_listen", reason.into());
    }
    if !redirects.is_empty() && public_url.is_none() {
        let reason = "public_url has to say where browsers are sent on to";
        reader.fault("tls.redirect_listen", reason.into());
    }
    let is_set = cert.is_some() || key.is_some() || acme.is_some();
    if is_set && public_url.is_some_and(|url| !url.is_https()) {
        let reason = "plain HTTP cannot reach a gateway that speaks TLS (tls.cert is set)";
        reader.fault("public_url", reason.into());
    }
    let files = [
        ("tls.cert", cert.clone()),
        ("tls.key", key.clone()),
        ("tls.client_ca", client_ca.clone()),
    ];
    let loaded = match (cert, key, acme) {
        (Some(_), Some(_), None) if reader.leaves_certificates() => Tls::unread(spoken),
        (Some(cert), Some(key), None) => Tls::open(TlsSettings {
            cert,
            key,
            client_ca,
            spoken,
        }),
        (None, None, Some(acme)) => {
            if client_ca.is_some() {
                let reason = "the authority that issues certificates (tls.acme) shows none itself";
                reader.fault("tls.client_ca", reason.into());
            }
            match public_url.map(Origin::host) {
                None => {
                    let reason = "public_url has to say under which of them browsers come";
                    reader.fault("tls.acme.domains", reason.into());
                }
                Some(host) if !acme.domains.iter().any(|domain| domain == host) => {
                    let reason =
                        format!("{host}, under which browsers come (public_url), is missing");
                    reader.fault("tls.acme.domains", reason);
                }
                Some(_) => {}
            }
            match reader.leaves_certificates() {
                true => Tls::unread(spoken),
                false => Tls::acme(acme, spoken),
            }
        }
        (None, None, None) => {
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
        (_, _, Some(_)) => {
            let reason = "a certificate comes from tls.cert or from here, not from both";
            reader.fault("tls.acme.domains", reason.into());
            return (None, redirects);
        }
        (Some(_), None, None) => {
            reader.fault("tls.cert", "tls.key is not set".into());
            return (None, redirects);
        }
        (None, Some(_), None) => {
            reader.fault("tls.key", "tls.cert is not set".into());
            return (None, redirects);
        }
    };
    match loaded {
        Ok(tls) => (Some(tls), redirects),
        Err(fault) => {
            let (path, reason) = fault.parts();
            reader.fault(path, reason.to_owned());
            // The first one hides what is behind it.
            for (other, file) in files {
                if other != path
                    && let Some(file) = file
                    && let Err(error) = File::open(&file)
                {
                    let file = file.display();
                    reader.fault(other, format!("{file} cannot be read: {error}"));
                }
            }
            (None, redirects)
        }
    }
}

fn read_acme(reader: &mut Reader, data_dir: &Path) -> Option<AcmeSettings> {
    let domains = reader.get::<ListOf<Domain>>("tls.acme.domains").0;
    let settings = AcmeSettings {
        domains: domains.into_iter().map(|domain| domain.0).collect(),
        contact: reader.get_set("tls.acme.contact").map(|Contact(to)| to),
        directory: reader.get::<Directory>("tls.acme.directory").0,
        ca: reader.get_set("tls.acme.ca"),
        folder: data_dir.join("acme"),
    };
    if settings.domains.is_empty() {
        if settings.contact.is_some() || settings.ca.is_some() {
            let reason = "nothing is asked for: tls.acme.domains is not set";
            let path = match settings.contact {
                Some(_) => "tls.acme.contact",
                None => "tls.acme.ca",
            };
            reader.fault(path, reason.into());
        }
        return None;
    }
    Some(settings)
}

/// A name that an authority can look up.
struct Domain(String);

impl Setting for Domain {
    fn parse(text: &str) -> Result<Self, String> {
        let tame = |part: &str| {
            !part.is_empty()
                && part.len() <= 63
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let is_number = text.parse::<IpAddr>().is_ok();
        match !is_number && text.len() <= 253 && text.split('.').all(tame) {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => Err(format!(
                "\"{text}\" is not a domain such as chat.example.com"
            )),
        }
    }
}

/// An e-mail address, as far as it needs to be one.
struct Contact(String);

impl Setting for Contact {
    fn parse(text: &str) -> Result<Self, String> {
        let is_one = text.split_once('@').is_some_and(|(name, domain)| {
            !name.is_empty() && Domain::parse(domain).is_ok() && text.is_ascii()
        });
        match is_one && !text.contains([' ', ',', '?']) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("\"{text}\" is not an e-mail address")),
        }
    }
}

/// The address of an authority's directory.
struct Directory(String);

impl Setting for Directory {
    fn parse(text: &str) -> Result<Self, String> {
        let url: Option<Uri> = text.parse().ok();
        let is_one = |url: Uri| {
            // It stands in what `config print` shows, so that no password is taken in it.
            let authority = url.authority().map_or("@", |authority| authority.as_str());
            url.scheme_str() == Some("https") && !authority.contains('@')
        };
        match url.is_some_and(is_one) {
            true => Ok(Self(text.to_owned())),
            false => Err("is not an https address without user and password".into()),
        }
    }
}
