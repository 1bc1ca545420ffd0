//! What is seen of a running gateway: log files and traces.

use std::path::PathBuf;

use ipnet::IpNet;
use reqwest::Url;

use super::layers::Reader;
use super::value::{ListOf, Secret, Setting};

/// Where log lines go beside standard error.
#[derive(Debug, Clone)]
pub struct LogFiles {
    /// The folder of the files; without one lines go to standard error.
    pub folder: Option<PathBuf>,
    /// How large a file grows.
    pub bytes: u64,
    /// Files that are kept, the written one among them.
    pub keep: usize,
}

/// Where traces go, and how many.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// Takes them by OTLP: HTTP and protobuf.
    pub endpoint: Url,
    /// One of so many is traced, at least 1.
    pub one_in: u64,
    /// What this gateway is called in them.
    pub service_name: String,
    /// Callers whose word counts on whether a trace is recorded.
    pub trust: Vec<IpNet>,
}

/// How what is measured is told.
#[derive(Debug, Clone, Default)]
pub struct MetricsSettings {
    /// Where it is told; empty, where everything else is.
    pub listen: Vec<super::Endpoint>,
    /// What whoever asks has to show.
    pub token: Option<Secret>,
}

/// An address of `http` or `https`, whole.
struct Endpoint(Url);

impl Setting for Endpoint {
    fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err("must begin with http:// or https:// and have a host".into());
        }
        // It stands in what `config print` shows.
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must hold no user and no password".into());
        }
        // A key of a collector may stand there.
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must end with its path, without ? and #".into());
        }
        Ok(Self(url))
    }
}

/// A name of one line.
struct ServiceName(String);

impl Setting for ServiceName {
    fn parse(text: &str) -> Result<Self, String> {
        let is_name = text.len() <= 100 && !text.contains(char::is_control);
        match is_name {
            true => Ok(Self(text.to_owned())),
            false => Err("must be a name of at most 100 bytes in one line".into()),
        }
    }
}

pub(super) fn log_files(reader: &mut Reader) -> LogFiles {
    LogFiles {
        folder: reader.get_set("log_dir"),
        bytes: (reader.between("log_file_mib", 1..=4096) as u64) << 20,
        keep: reader.between("log_files", 1..=1000),
    }
}

pub(super) fn metrics(reader: &mut Reader) -> MetricsSettings {
    MetricsSettings {
        listen: reader.get::<ListOf<super::Endpoint>>("metrics.listen").0,
        token: reader.get_set("metrics.token"),
    }
}

pub(super) fn trace(reader: &mut Reader) -> Option<TraceSettings> {
    let endpoint = reader.get_set::<Endpoint>("trace.otlp_endpoint");
    let one_in = reader.between("trace.one_in", 1..=1_000_000_000) as u64;
    let ServiceName(service_name) = reader.get("trace.service_name");
    let trust = reader.get::<ListOf<IpNet>>("trace.trust").0;
    endpoint.map(|Endpoint(endpoint)| TraceSettings {
        endpoint,
        one_in,
        service_name,
        trust,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_without_secrets() {
        assert!(Endpoint::parse("http://localhost:4318/v1/traces").is_ok());
        for other in [
            "localhost:4318",
            "grpc://localhost:4317",
            "http://",
            "http://user@localhost/v1/traces",
            "http://:secret@localhost/v1/traces",
            "http://localhost:4318/v1/traces?api-key=secret",
            "http://localhost:4318/v1/traces?",
            "http://localhost:4318/v1/traces#secret",
        ] {
            assert!(Endpoint::parse(other).is_err(), "{other}");
        }
    }
}
