//! Typed values of settings: each is parsed from text, however it was given, and knows what to say when it cannot be.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use http::Uri;
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

/// A value that can be read from a setting's text.
pub(super) trait Setting: Sized {
    /// The value, or what is wrong with the text, for people. The text itself is repeated only where it is no secret.
    fn parse(text: &str) -> Result<Self, String>;
}

impl Setting for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("\"{text}\" is neither true nor false")),
        }
    }
}

impl Setting for u64 {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("\"{text}\" is not a whole number"))
    }
}

impl Setting for usize {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("\"{text}\" is not a whole number"))
    }
}

impl Setting for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("a path is not empty".into()),
            text => Ok(Self::from(text)),
        }
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Setting for Secret {
    fn parse(text: &str) -> Result<Self, String> {
        /// What HS256 needs: a key as long as its hash.
        const MIN_BYTES: usize = 32;
        if text.len() >= MIN_BYTES {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "a secret has at least {MIN_BYTES} bytes, this one has {}",
                text.len()
            ))
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Setting for LogFormat {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("\"{text}\" is neither text nor json")),
        }
    }
}

/// A log filter that `tracing` understands.
#[derive(Debug, Clone)]
pub(super) struct LogFilter(pub(super) String);

impl Setting for LogFilter {
    fn parse(text: &str) -> Result<Self, String> {
        EnvFilter::try_new(text)
            .map(|_| Self(text.to_owned()))
            .map_err(|error| format!("\"{text}\" is not a log filter: {error}"))
    }
}

/// A name that stands in front of people, and in the address of a one-time code's secret.
#[derive(Debug, Clone)]
pub(super) struct SiteName(pub(super) String);

impl Setting for SiteName {
    fn parse(text: &str) -> Result<Self, String> {
        let tame = |c: char| !c.is_control() && c != ':';
        if (1..=64).contains(&text.chars().count()) && text.trim() == text && text.chars().all(tame)
        {
            Ok(Self(text.to_owned()))
        } else {
            Err("a name has 1 to 64 characters, without colons and without blanks around it".into())
        }
    }
}

/// Who may make an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Registration {
    /// Everybody.
    #[default]
    Open,
    /// Who has an invitation.
    Invite,
    /// Nobody.
    Closed,
}

impl Setting for Registration {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "open" => Ok(Self::Open),
            "invite" => Ok(Self::Invite),
            "closed" => Ok(Self::Closed),
            _ => Err(format!("\"{text}\" is none of open, invite and closed")),
        }
    }
}

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signing {
    /// With a secret of this server.
    #[default]
    Hs256,
    /// With a key whose public half is published.
    Eddsa,
}

impl Setting for Signing {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "hs256" => Ok(Self::Hs256),
            "eddsa" => Ok(Self::Eddsa),
            _ => Err(format!("\"{text}\" is neither hs256 nor eddsa")),
        }
    }
}

/// A web origin: scheme, host and port, as a browser writes it into the `Origin` header.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin(String);

impl Origin {
    /// The origin of a plain-HTTP address.
    #[must_use]
    pub fn http(host: &str, port: u16) -> Self {
        match port {
            80 => Self(format!("http://{host}")),
            _ => Self(format!("http://{host}:{port}")),
        }
    }

    /// The origin of an address under TLS.
    #[must_use]
    pub fn https(host: &str, port: u16) -> Self {
        match port {
            443 => Self(format!("https://{host}")),
            _ => Self(format!("https://{host}:{port}")),
        }
    }

    /// The origin as a browser writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the origin is reached under TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }

    /// The host, an IPv6 address in its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let authority = self
            .0
            .split_once("://")
            .map_or("", |(_, authority)| authority);
        match authority.rsplit_once(':') {
            Some((host, _)) if !authority.ends_with(']') => host,
            _ => authority,
        }
    }

    /// The port, also where the scheme implies it.
    #[must_use]
    pub fn port(&self) -> u16 {
        let implied = if self.is_https() { 443 } else { 80 };
        self.0
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(implied)
    }

    /// Whether the host is this machine by name or number.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        let number = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || number.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Setting for Origin {
    fn parse(text: &str) -> Result<Self, String> {
        let not_one = || format!("\"{text}\" is not an origin such as https://chat.example.com");
        let uri: Uri = text.parse().map_err(|_| not_one())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(not_one());
        };
        if !matches!(uri.path(), "" | "/")
            || uri.query().is_some()
            || authority.as_str().contains('@')
        {
            return Err(format!(
                "\"{text}\" has more than a scheme, a host and a port"
            ));
        }
        let implied = match scheme {
            "https" => 443,
            "http" => 80,
            _ => return Err(format!("\"{text}\" is neither http nor https")),
        };
        let host = authority.host().to_ascii_lowercase();
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, digits)) if !authority.as_str().ends_with(']') => {
                digits.parse::<u16>().map_err(|_| not_one())?
            }
            _ => implied,
        };
        Ok(Self(if port == implied {
            format!("{scheme}://{host}")
        } else {
            format!("{scheme}://{host}:{port}")
        }))
    }
}

/// The origin under which browsers know the gateway. Its cookies need TLS, except on the machine itself.
#[derive(Debug, Clone)]
pub(super) struct PublicUrl(pub(super) Origin);

impl Setting for PublicUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let origin = Origin::parse(text)?;
        if origin.is_https() || origin.is_loopback() {
            Ok(Self(origin))
        } else {
            Err(format!(
                "\"{text}\" is plain HTTP on a host that is not loopback; browsers keep no sign-in there, use https"
            ))
        }
    }
}

/// A list of values, comma-separated.
#[derive(Debug, Clone)]
pub(super) struct ListOf<T>(pub(super) Vec<T>);

impl<T: Setting> Setting for ListOf<T> {
    fn parse(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(T::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Setting for IpNet {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse::<Self>()
            .or_else(|_| text.parse::<IpAddr>().map(Self::from))
            .map_err(|_| {
                format!("\"{text}\" is neither an IP address nor a network such as 10.0.0.0/8")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        let origin = |text| Origin::parse(text).map(|origin| origin.to_string());
        assert_eq!(
            origin("https://Chat.Example.com:443/").unwrap(),
            "https://chat.example.com"
        );
        assert_eq!(
            origin("http://localhost:8080").unwrap(),
            "http://localhost:8080"
        );
        assert_eq!(origin("http://[::1]:80").unwrap(), "http://[::1]");
        for bad in [
            "",
            "localhost:8080",
            "ftp://a",
            "https://a/b",
            "https://a?b",
            "https://u@a",
            "https://a:x",
            "null",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_know_their_parts() {
        let parts = |text| {
            let origin = Origin::parse(text).unwrap();
            (
                origin.host().to_owned(),
                origin.port(),
                origin.is_loopback(),
            )
        };
        assert_eq!(parts("http://[::1]:8080"), ("[::1]".into(), 8080, true));
        assert_eq!(parts("http://[::1]"), ("[::1]".into(), 80, true));
        assert_eq!(parts("http://127.0.0.1:1"), ("127.0.0.1".into(), 1, true));
        assert_eq!(parts("https://a.example"), ("a.example".into(), 443, false));
    }

    #[test]
    fn plain_http_is_for_loopback() {
        assert!(PublicUrl::parse("http://127.0.0.1:8080").is_ok());
        assert!(PublicUrl::parse("https://chat.example").is_ok());
        assert!(PublicUrl::parse("http://chat.example").is_err());
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::parse("0123456789abcdef0123456789abcdef").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        let refused = Secret::parse("hunter2").unwrap_err();
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}
