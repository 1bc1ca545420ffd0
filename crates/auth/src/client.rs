//! Where a request comes from, as sessions, counters and the audit log keep it.

use std::net::IpAddr;

use stack_storage::CeremonyOwner;

/// What is shown of a client that names itself in no way we know.
const MAX_DEVICE_CHARS: usize = 64;

/// The client of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its address, behind whatever trusted proxies there are.
    pub ip: IpAddr,
    /// A short name for people: "Firefox on Linux".
    pub device: String,
}

impl Client {
    /// A client with this address and `User-Agent`.
    #[must_use]
    pub fn new(ip: IpAddr, user_agent: Option<&str>) -> Self {
        Self {
            ip: ip.to_canonical(),
            device: device_name(user_agent.unwrap_or_default()),
        }
    }

    /// Whose the ceremonies are that strangers from there begin.
    pub(crate) fn ceremony_owner(&self) -> CeremonyOwner {
        CeremonyOwner::Network(self.counter_key())
    }

    /// The address in the key of a counter: IPv6 by its /64, since one customer has all of that.
    pub(crate) fn counter_key(&self) -> String {
        match self.ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        }
    }
}

fn device_name(user_agent: &str) -> String {
    // Browsers claim to be each other: who is named first here claims to be those named later.
    const BROWSERS: [(&str, &str); 7] = [
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("SamsungBrowser/", "Samsung Internet"),
        ("Firefox/", "Firefox"),
        ("FxiOS/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ];
    const SYSTEMS: [(&str, &str); 7] = [
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("CrOS", "ChromeOS"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ];
    let named = |names: &[(&str, &'static str)]| {
        let found = names.iter().find(|(mark, _)| user_agent.contains(mark));
        found.map(|(_, name)| *name)
    };
    if user_agent.starts_with("Mozilla/")
        && let Some(browser) = named(&BROWSERS)
    {
        return match named(&SYSTEMS) {
            Some(system) => format!("{browser} on {system}"),
            None => browser.to_owned(),
        };
    }
    let product = user_agent.split_whitespace().next().unwrap_or_default();
    let shown = product.chars().filter(|character| !character.is_control());
    let shown: String = shown.take(MAX_DEVICE_CHARS).collect();
    if shown.is_empty() {
        "unknown".to_owned()
    } else {
        shown
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn browsers_are_named_for_people() {
        for (user_agent, name) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
                "Safari on iPhone",
            ),
            (
                "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
                "Chrome on Android",
            ),
            ("python-websockets/16.0 something", "python-websockets/16.0"),
            ("", "unknown"),
        ] {
            assert_eq!(device_name(user_agent), name);
        }
    }

    #[test]
    fn a_network_counts_as_one() {
        let key = |ip: &str| Client::new(ip.parse().unwrap(), None).counter_key();
        assert_eq!(key("192.0.2.7"), "192.0.2.7");
        assert_eq!(key("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), key("2001:db8:1:2::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    }

    proptest! {
        #[test]
        fn any_header_gives_a_short_name(user_agent in any::<String>()) {
            let name = device_name(&user_agent);
            prop_assert!((1..=MAX_DEVICE_CHARS).contains(&name.chars().count()));
            prop_assert!(!name.chars().any(char::is_control));
        }
    }
}
