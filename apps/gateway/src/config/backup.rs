//! The settings of backups: where they go, how often, for whose key they are enciphered, and how many stay.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use age::x25519::Recipient;
use reqwest::Url;

use super::layers::Reader;
use super::value::{ListOf, Secret, Setting};

/// The region that servers of their own go by.
const USUAL_REGION: &str = "us-east-1";

/// Backups.
#[derive(Clone)]
pub struct BackupSettings {
    /// Where they go on a schedule; unset, none is made.
    pub to: Option<BackupUrl>,
    /// Between two of them.
    pub every: Duration,
    /// How many stay.
    pub keep: usize,
    /// Whose keys open them; with none they are as the file is.
    pub recipients: Vec<Recipient>,
    /// The way to a bucket, where there is one.
    pub bucket: Option<BucketSettings>,
}

impl fmt::Debug for BackupSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupSettings")
            .field("to", &self.to)
            .field("every", &self.every)
            .field("keep", &self.keep)
            .field("recipients", &self.recipients.len())
            .field("bucket", &self.bucket)
            .finish()
    }
}

/// The way to a server that speaks S3.
#[derive(Debug, Clone)]
pub struct BucketSettings {
    /// The server; unset, that of AWS for the region.
    pub endpoint: Option<Url>,
    /// The region.
    pub region: String,
    /// The name of the key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: Secret,
}

/// Where backups are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupUrl {
    /// A folder.
    Folder(PathBuf),
    /// A bucket.
    Bucket {
        /// Its name.
        bucket: String,
        /// What stands in front of every name in it; may be empty.
        prefix: String,
    },
}

impl Setting for BackupUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("s3://") else {
            return match text.contains("://") {
                true => Err(format!(
                    "\"{text}\" is neither a folder nor s3://bucket/prefix"
                )),
                false => Ok(Self::Folder(PathBuf::from(text))),
            };
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bucket.is_empty() || !bucket.chars().all(is_name) {
            return Err(format!("\"{bucket}\" is not the name of a bucket"));
        }
        Ok(Self::Bucket {
            bucket: bucket.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for BackupUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Bucket { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// How often, as people write it.
struct Every(Duration);

impl Setting for Every {
    fn parse(text: &str) -> Result<Self, String> {
        const DAY: u64 = 24 * 60 * 60;
        let unit = match text.chars().next_back() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 60 * 60,
            Some('d') => DAY,
            _ => 0,
        };
        let number = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
        let seconds = number.parse::<u64>().ok();
        let seconds = seconds.and_then(|number| number.checked_mul(unit));
        match seconds {
            Some(seconds @ 1..) if seconds <= 365 * DAY => Ok(Self(Duration::from_secs(seconds))),
            _ => Err(format!(
                "\"{text}\" is no such time as 30m, 6h or 1d, up to a year"
            )),
        }
    }
}

impl Setting for Recipient {
    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("AGE-SECRET-KEY") {
            return Err("is a secret key; the public one begins with age1".into());
        }
        text.parse()
            .map_err(|_| format!("\"{text}\" is no public key of age (age1…)"))
    }
}

/// A word that stands in the head of a request.
struct Word(String);

impl Setting for Word {
    fn parse(text: &str) -> Result<Self, String> {
        match text.chars().all(|c| c.is_ascii_graphic()) {
            true => Ok(Self(text.to_owned())),
            false => Err("must be one word of ASCII".into()),
        }
    }
}

/// A server's key has the length that its maker likes.
struct ServersSecret(Secret);

impl Setting for ServersSecret {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(Secret::from(text.to_owned())))
    }
}

/// A server that speaks S3.
struct Server(Url);

impl Setting for Server {
    fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err("must begin with https:// and have a host".into());
        }
        // It stands in what `config print` shows.
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must hold no user and no password".into());
        }
        Ok(Self(url))
    }
}

/// Whether what goes there stays on this machine.
fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

pub(super) fn read(reader: &mut Reader) -> BackupSettings {
    let to = reader.get_set::<BackupUrl>("backup.to");
    let recipients = reader.get::<ListOf<Recipient>>("backup.recipients").0;
    let endpoint = reader.get_set::<Server>("backup.s3_endpoint");
    let region = reader
        .get_set::<Word>("backup.s3_region")
        .map(|word| word.0);
    let access_key_id = reader.get_set::<Word>("backup.s3_access_key_id");
    let access_key_id = access_key_id.map(|word| word.0);
    let secret = reader.get_set::<ServersSecret>("backup.s3_secret_access_key");
    if let Some(Server(url)) = &endpoint
        && url.scheme() == "http"
        && !is_here(url)
        && recipients.is_empty()
    {
        let reason = "would send the whole file in the clear; https, or backup.recipients";
        reader.fault("backup.s3_endpoint", reason.into());
    }
    if matches!(to, Some(BackupUrl::Bucket { .. })) {
        for (path, is_set) in [
            ("backup.s3_access_key_id", access_key_id.is_some()),
            ("backup.s3_secret_access_key", secret.is_some()),
        ] {
            if !is_set {
                reader.fault(path, "a bucket in backup.to needs it".into());
            }
        }
        if endpoint.is_none() && region.is_none() {
            let reason = "a bucket in backup.to needs it, or backup.s3_region for AWS";
            reader.fault("backup.s3_endpoint", reason.into());
        }
    }
    let bucket = match (access_key_id, secret) {
        (Some(access_key_id), Some(ServersSecret(secret_access_key))) => Some(BucketSettings {
            endpoint: endpoint.map(|Server(url)| url),
            region: region.unwrap_or_else(|| USUAL_REGION.to_owned()),
            access_key_id,
            secret_access_key,
        }),
        _ => None,
    };
    BackupSettings {
        to,
        every: reader.get::<Every>("backup.every").0,
        keep: reader.between("backup.keep", 1..=10_000),
        recipients,
        bucket,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_folder_or_a_bucket() {
        let bucket = |bucket: &str, prefix: &str| BackupUrl::Bucket {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        assert_eq!(BackupUrl::parse("s3://box"), Ok(bucket("box", "")));
        assert_eq!(BackupUrl::parse("s3://box/"), Ok(bucket("box", "")));
        assert_eq!(BackupUrl::parse("s3://box/a/b/"), Ok(bucket("box", "a/b")));
        assert_eq!(
            BackupUrl::parse("/var/backups"),
            Ok(BackupUrl::Folder("/var/backups".into()))
        );
        for wrong in [
            "s3://",
            "s3:///a",
            "s3://b?x/a",
            "https://box/a",
            "gs://box",
        ] {
            assert!(BackupUrl::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_has_a_unit() {
        let seconds = |text: &str| Every::parse(text).map(|every| every.0.as_secs());
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("30m"), Ok(30 * 60));
        assert_eq!(seconds("6h"), Ok(6 * 60 * 60));
        assert_eq!(seconds("1d"), Ok(24 * 60 * 60));
        for wrong in [
            "",
            "6",
            "h",
            "0h",
            "-1h",
            "6 h",
            "1.5h",
            "366d",
            "6ö",
            "99999999999999999999d",
        ] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
