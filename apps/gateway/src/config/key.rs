//! The table of settings: the only place where a key, its default and its meaning are written down. The reader, the
//! environment names, `config default` and `config print` all follow from it.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// Where it stands in `stack.toml`, e.g. `bus.url`.
    pub(super) path: &'static str,
    /// The default as text, as one would write it into the environment. Empty means: not set.
    pub(super) default: &'static str,
    /// How `stack.toml` writes it.
    pub(super) kind: Kind,
    /// What it does, for `config default`.
    pub(super) doc: &'static str,
    /// Whether a change of it comes into force when the configuration is read again; else it needs a restart.
    pub(super) live: bool,
}

/// How a value stands in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string.
    Text,
    /// A string that is never printed.
    Secret,
    /// An integer or a boolean.
    Bare,
    /// An array of strings; a comma-separated list elsewhere.
    List,
    /// A string or an array of strings; a comma-separated list elsewhere.
    OneOrList,
}

impl Key {
    /// The environment variable: `STACK_` and the path. The signing secret has a name of its own.
    pub(super) fn env(&self) -> String {
        match self.path {
            "auth.jwt_secret" => "AUTH_JWT_SECRET".into(),
            path => format!("STACK_{}", path.replace('.', "_").to_ascii_uppercase()),
        }
    }

    /// The environment variable that names a file with the value; a secret alone has one.
    pub(super) fn file_env(&self) -> Option<String> {
        let suffix = super::layers::FILE_SUFFIX.to_ascii_uppercase();
        (self.kind == Kind::Secret).then(|| self.env() + &suffix)
    }

    /// The section in `stack.toml`; empty for what stands at its top.
    pub(super) fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }

    /// The name inside the section.
    pub(super) fn name(&self) -> &'static str {
        self.path
            .split_once('.')
            .map_or(self.path, |(_, name)| name)
    }
}

/// The key with this path. Asking for one that is not in the table is a mistake in this crate.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The secret with this path.
pub(super) fn find_secret(path: &str) -> Option<&'static Key> {
    find(path).filter(|key| key.kind == Kind::Secret)
}

const fn key(path: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        path,
        default,
        kind,
        doc,
        live: false,
    }
}

/// A setting that may change while the gateway runs.
const fn live(path: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        live: true,
        ..key(path, kind, default, doc)
    }
}

use Kind::{Bare, List, OneOrList, Secret, Text};

/// Every setting, in the order in which they are printed: those without a section first, as TOML wants it.
pub(super) const KEYS: &[Key] = &[
    key(
        "listen",
        OneOrList,
        "127.0.0.1:8080",
        "Addresses and ports to listen on, or Unix sockets such as unix:/run/stack.sock; port 0 takes a free one.",
    ),
    key(
        "data_dir",
        Text,
        "./data",
        "Folder of the database file and the generated keys; made when it is missing.",
    ),
    key(
        "public_url",
        Text,
        "",
        "How browsers reach the gateway: https, or http on a loopback host. Unset, it is http://localhost and the port.",
    ),
    live(
        "trusted_proxies",
        List,
        "",
        "Addresses or networks of proxies whose X-Forwarded-For is believed, e.g. 10.0.0.0/8.",
    ),
    live(
        "proxy_protocol",
        List,
        "",
        "Addresses or networks of proxies that say whose a connection is by the PROXY protocol, 1 or 2, and have to.",
    ),
    live(
        "log",
        Text,
        "info",
        "What is logged: a level, or a filter such as info,stack_gateway=debug.",
    ),
    key("log_format", Text, "text", "text or json."),
    key(
        "log_dir",
        Text,
        "",
        "Folder for log files. Unset, lines go to standard error; set, into stack-gateway.log there (of an edge: stack-edge.log).",
    ),
    key(
        "log_file_mib",
        Bare,
        "32",
        "How large a log file grows, in MiB, before the next one is begun.",
    ),
    key(
        "log_files",
        Bare,
        "8",
        "Log files that are kept, the one that is written among them.",
    ),
    key(
        "site_name",
        Text,
        "Stack",
        "What authenticators and sign-in pages call this server.",
    ),
    live(
        "tls.cert",
        Text,
        "",
        "File of the certificate and its chain, PEM or DER. With it and tls.key the gateway speaks TLS and nothing else.",
    ),
    live(
        "tls.key",
        Text,
        "",
        "File of the certificate's private key: PKCS#8, PKCS#1 or SEC1, PEM or DER.",
    ),
    live(
        "tls.min_version",
        Text,
        "1.3",
        "The oldest TLS that is spoken: 1.3 or 1.2.",
    ),
    live("tls.http2", Bare, "true", "Whether HTTP/2 is offered."),
    live(
        "tls.client_ca",
        Text,
        "",
        "File of the certificates of those who issue clients theirs. Set, a client without one is not let in.",
    ),
    key(
        "tls.redirect_listen",
        List,
        "",
        "Addresses where plain HTTP is answered with the way to public_url.",
    ),
    key(
        "tls.acme.domains",
        List,
        "",
        "Domains that an authority issues a certificate for by ACME, in place of tls.cert; it has to reach port 443 there.",
    ),
    key(
        "tls.acme.contact",
        Text,
        "",
        "An e-mail address that the authority writes to.",
    ),
    key(
        "tls.acme.directory",
        Text,
        "https://acme-v02.api.letsencrypt.org/directory",
        "The authority. To ask one for a certificate is to agree to its terms.",
    ),
    key(
        "tls.acme.ca",
        Text,
        "",
        "File of the certificates by which the authority itself is known, where the system does not know it.",
    ),
    key(
        "bus.url",
        Text,
        "mem:",
        "Where events go out to other processes: nng+tcp://host:port, nng+ipc:///path, zmq+tcp://… or zmq+ipc://…; mem: stays in this one.",
    ),
    key(
        "bus.publish",
        List,
        "",
        "Further addresses to publish to: subscribers that are bound, which the gateway dials.",
    ),
    key(
        "bus.subscribe",
        List,
        "",
        "Addresses of publishers to hear, such as another gateway's bus.url, which the gateway dials.",
    ),
    key(
        "bus.curve_secret_key_file",
        Text,
        "",
        "CURVE key pair of this gateway, as pyzmq writes it: it enciphers every zmq+tcp address. `stack-gateway bus-keys FILE` makes one.",
    ),
    key(
        "bus.curve_server_key",
        Text,
        "",
        "CURVE public key of who is dialled.",
    ),
    key(
        "bus.curve_authorized_keys_file",
        Text,
        "",
        "CURVE public keys of who may dial, one a line.",
    ),
    key(
        "edge.origin",
        Text,
        "",
        "Where an edge finds its origin: unix:/path/to/gateway.sock or tls://host:port; --origin says it too.",
    ),
    key(
        "edge.listen",
        Text,
        "",
        "Where this gateway listens for edges on other machines; those on this one come by its local socket.",
    ),
    key(
        "edge.tls_cert",
        Text,
        "",
        "Certificate that this end of an edge shows the other, in PEM.",
    ),
    key("edge.tls_key", Text, "", "Its private key, in PEM."),
    key(
        "edge.client_ca",
        Text,
        "",
        "Certificates in PEM: whoever shows one that they have signed is an edge of this gateway, and speaks for its clients.",
    ),
    key(
        "edge.origin_ca",
        Text,
        "",
        "Certificates in PEM: one of them has signed that of an edge's origin.",
    ),
    key(
        "ipc.path",
        Text,
        "",
        "The socket for programs on this machine and for the command line; unset, gateway.sock in the data folder.",
    ),
    key(
        "ipc.enabled",
        Bare,
        "true",
        "Whether there is a local socket. Without it the command line works only while the gateway does not run.",
    ),
    key(
        "ipc.message_bytes",
        Bare,
        "2097152",
        "The largest message that a program may send over the local socket, in bytes.",
    ),
    key(
        "ipc.calls_in_flight",
        Bare,
        "128",
        "Calls of one connection to the local socket that are carried out at the same time; more wait in the socket.",
    ),
    key(
        "ipc.connections",
        Bare,
        "256",
        "Connections to the local socket that may be open.",
    ),
    live(
        "auth.registration",
        Text,
        "open",
        "Who may make an account: open (everybody), invite (who has an invitation) or closed (nobody).",
    ),
    key(
        "auth.signing",
        Text,
        "hs256",
        "How tokens are signed: hs256 (a secret of this server) or eddsa (public keys at /.well-known/jwks.json).",
    ),
    key(
        "auth.jwt_secret",
        Secret,
        "",
        "Signs access tokens: its UTF-8 bytes, at least 32. Unset, a key is generated in the data folder.",
    ),
    key(
        "auth.access_token_ttl_s",
        Bare,
        "600",
        "How long an access token lives, in seconds.",
    ),
    live(
        "auth.refresh_grace_s",
        Bare,
        "15",
        "How long a spent refresh token may be repeated, in seconds.",
    ),
    live(
        "rate.enabled",
        Bare,
        "true",
        "Rate limits. Off is for tests and benchmarks.",
    ),
    live(
        "cors.origins",
        List,
        "",
        "Other origins whose pages may call the API with credentials.",
    ),
    key(
        "http.timeout_s",
        Bare,
        "10",
        "How long an API request may take, in seconds.",
    ),
    key(
        "http.concurrent_requests",
        Bare,
        "1024",
        "API requests carried out at once; more are answered 503.",
    ),
    key(
        "limits.frame_bytes",
        Bare,
        "65536",
        "A WebSocket message from a client.",
    ),
    key("limits.body_bytes", Bare, "16384", "The body of a message."),
    key("limits.data_bytes", Bare, "32768", "The data of a message."),
    key("limits.key_bytes", Bare, "64", "An idempotency key."),
    key(
        "limits.http_body_bytes",
        Bare,
        "1048576",
        "An HTTP request body.",
    ),
    key(
        "limits.subscriptions_per_connection",
        Bare,
        "256",
        "Rooms that one connection subscribes to.",
    ),
    key(
        "limits.connections_per_user",
        Bare,
        "32",
        "Open connections of one user.",
    ),
    // An idle connection costs some KiB and one file descriptor, one that sends its largest frame 64 KiB more: a GiB for
    // all of them. What is asked for and not taken is held for half a minute, a page of history of up to 900 KiB; on
    // HTTP/2 each request beside the first has a place of its own, so that no connection holds more than its places. It is
    // the share of an address that bounds what one client brings about: a GiB.
    live(
        "limits.connections",
        Bare,
        "16384",
        "Open connections in all, WebSockets among them; one more is closed at once.",
    ),
    // An office or a school behind one address has some hundred people with a tab or two each.
    live(
        "limits.connections_per_ip",
        Bare,
        "1024",
        "Open connections from one address, or one /64 of IPv6; this machine and trusted_proxies are exempt. On HTTP/2 a request beside the first counts too.",
    ),
    key(
        "limits.page_events",
        Bare,
        "500",
        "The largest page of history.",
    ),
    key(
        "presence.lease_s",
        Bare,
        "60",
        "How long a silent connection still counts as present, in seconds.",
    ),
    key(
        "presence.count_only_above",
        Bare,
        "200",
        "Rooms with more people than this tell their number only.",
    ),
    key(
        "storage.cache_mib",
        Bare,
        "64",
        "Memory for the database's pages, in MiB.",
    ),
    key(
        "metrics.listen",
        OneOrList,
        "",
        "Addresses or Unix sockets where /metrics is, and nothing else; it is then nowhere else. Unset, it is where everything is.",
    ),
    live(
        "metrics.token",
        Secret,
        "",
        "The bearer token that whoever asks for /metrics has to show, at least 32 bytes. Unset, none is asked for.",
    ),
    key(
        "backup.to",
        Text,
        "",
        "Where backups go on a schedule: a folder that is there, or s3://bucket/prefix. Unset, none is made.",
    ),
    key(
        "backup.every",
        Text,
        "6h",
        "How often: 30m, 6h or 1d. A restart changes nothing in it.",
    ),
    key(
        "backup.keep",
        Bare,
        "14",
        "Backups that stay. Older ones of the gateway's own naming are removed, after a new one is there.",
    ),
    key(
        "backup.recipients",
        List,
        "",
        "Public keys of age (age1…): whoever has the secret key of one opens the backups, nobody else. Unset, they are plain.",
    ),
    key(
        "backup.s3_endpoint",
        Text,
        "",
        "The server of the bucket, e.g. https://s3.example.com; unset, that of AWS for backup.s3_region.",
    ),
    key(
        "backup.s3_region",
        Text,
        "",
        "The region of the bucket; us-east-1 with a server of one's own.",
    ),
    key(
        "backup.s3_access_key_id",
        Text,
        "",
        "The name of the key to the bucket.",
    ),
    key(
        "backup.s3_secret_access_key",
        Secret,
        "",
        "The key to the bucket.",
    ),
    key(
        "retention.days",
        Bare,
        "0",
        "No room keeps messages and other events longer than this, whatever its settings say; 0 for ever.",
    ),
    key(
        "retention.messages",
        Bare,
        "0",
        "No room keeps more than its newest so many events, whatever its settings say; 0 for all.",
    ),
    key(
        "trace.otlp_endpoint",
        Text,
        "",
        "Where traces are sent by OTLP (HTTP, protobuf), e.g. http://localhost:4318/v1/traces. Unset, nothing is traced.",
    ),
    live(
        "trace.one_in",
        Bare,
        "1000",
        "One of so many requests and frames is traced, chosen by its id; 1 traces all.",
    ),
    key(
        "trace.service_name",
        Text,
        "stack-gateway",
        "What this gateway is called in traces.",
    ),
    key(
        "trace.trust",
        List,
        "",
        "Addresses or networks of callers whose traceparent says whether a request is traced; of others it is the gateway's to say.",
    ),
    live(
        "shutdown.deadline_s",
        Bare,
        "20",
        "How long a shutdown waits for connections, in seconds.",
    ),
];
