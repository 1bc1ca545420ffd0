//! Certificates and keys as they stand in files.

use std::fs::{self, Metadata};
use std::path::Path;
use std::time::SystemTime;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use stack_types::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use super::{TlsFault, TlsSettings};

/// How text in PEM begins; what has none of it is DER.
const PEM: &[u8] = b"-----BEGIN ";

/// A certificate with what stands behind it, and its key.
pub(crate) struct Pair {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) private: PrivateKeyDer<'static>,
    pub(crate) not_after: Timestamp,
}

/// What tells a file from the one that was there before: an editor writes into it, a tool puts another in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<(Option<SystemTime>, u64, Identity)>>);

/// Which file it is, and when something about it changed last: its rights may have.
type Identity = (u64, i64, i64);

impl Stamp {
    pub(super) fn of(settings: &TlsSettings) -> Self {
        let files = [
            Some(&settings.cert),
            Some(&settings.key),
            settings.client_ca.as_ref(),
        ];
        let stamp = |path| {
            let found = fs::metadata(path).ok()?;
            Some((found.modified().ok(), found.len(), identity(&found)))
        };
        Self(files.into_iter().flatten().map(stamp).collect())
    }
}

#[cfg(unix)]
fn identity(found: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt as _;
    (found.ino(), found.ctime(), found.ctime_nsec())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {
    (0, 0, 0)
}

/// The chain and the key.
pub(crate) fn pair(cert: &Path, key: &Path) -> Result<Pair, TlsFault> {
    let chain = certificates(cert).map_err(TlsFault::Cert)?;
    let own = chain.first().map_or(&[][..], |own| own.as_ref());
    let not_after = valid_until(own)
        .map_err(|reason| TlsFault::Cert(format!("{}: {reason}", cert.display())))?;
    let private = private_key(key).map_err(TlsFault::Key)?;
    Ok(Pair {
        chain,
        private,
        not_after,
    })
}

/// The certificates of a file; there is at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    if !is_pem(&bytes) {
        return Ok(vec![CertificateDer::from(bytes)]);
    }
    let found = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("{} is not PEM: {error}", path.display()))?;
    if found.is_empty() {
        return Err(format!("{} has no certificate in PEM", path.display()));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = read(path)?;
    if !is_pem(&bytes) {
        return PrivateKeyDer::try_from(bytes)
            .map_err(|_| format!("{} is neither PEM nor a private key in DER", path.display()));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
        _ if is_sealed(&bytes) => format!(
            "the private key in {} is sealed with a passphrase, which nobody is there to type",
            path.display()
        ),
        pem::Error::NoItemsFound => format!("{} has no private key in PEM", path.display()),
        error => format!("{} is not PEM: {error}", path.display()),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// An empty file is as much the one as the other.
fn is_pem(bytes: &[u8]) -> bool {
    bytes.is_empty() || has(bytes, PEM)
}

/// As PKCS#8, or in the way that keys of one kind were sealed before there was that.
fn is_sealed(bytes: &[u8]) -> bool {
    has(bytes, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(bytes, b"Proc-Type: 4,ENCRYPTED")
}

fn has(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// When a certificate ends, if it is good now.
pub(super) fn valid_until(der: &[u8]) -> Result<Timestamp, String> {
    let (_, cert) = X509Certificate::from_der(der)
        .map_err(|error| format!("this is not a certificate: {error}"))?;
    let validity = cert.validity();
    let now = ASN1Time::now();
    if now < validity.not_before {
        return Err(format!(
            "the certificate is not good before {}",
            validity.not_before
        ));
    }
    if now > validity.not_after {
        return Err(format!(
            "the certificate has ended on {}",
            validity.not_after
        ));
    }
    let seconds = u64::try_from(validity.not_after.timestamp()).unwrap_or(0);
    Ok(Timestamp(seconds * 1000))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Whoever puts a file in the place of another may keep its length and its time; and rights have none.
    #[cfg(unix)]
    #[test]
    fn a_file_is_another_one_after_any_change() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "one").unwrap();
        let settings = TlsSettings::new(&path, &path);
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        let write = || {
            fs::write(&path, "two").unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(time).unwrap();
        };
        let forbid = || {
            let nobody = fs::Permissions::from_mode(0o000);
            fs::set_permissions(&path, nobody).unwrap();
        };
        for change in [&write as &dyn Fn(), &forbid] {
            let before = Stamp::of(&settings);
            let start = Instant::now();
            // Until the file system's clock has ticked.
            while Stamp::of(&settings) == before {
                assert!(
                    start.elapsed() < Duration::from_secs(10),
                    "it looks the same"
                );
                change();
            }
        }
    }
}
