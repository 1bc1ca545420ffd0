//! The configuration is read as a whole: precedence, every fault at once, nothing secret in what is shown.

use std::path::{Path, PathBuf};

use super::*;

fn env(pairs: &[(&str, &str)]) -> Inputs {
    Inputs {
        env: pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        ..Inputs::default()
    }
}

fn file(text: &str) -> (tempfile::TempDir, Inputs) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.toml");
    std::fs::write(&path, text).unwrap();
    let inputs = Inputs {
        config_file: Some(path),
        ..Inputs::default()
    };
    (folder, inputs)
}

/// The faults as `key: reason`, or the variable's name where there is no key.
fn faults(inputs: &Inputs) -> Vec<String> {
    let Faults(faults) = Config::load(inputs).unwrap_err();
    faults
        .into_iter()
        .map(|fault| {
            format!(
                "{}: {}",
                if fault.key.is_empty() {
                    fault.source
                } else {
                    fault.key
                },
                fault.reason
            )
        })
        .collect()
}

#[test]
fn every_default_is_valid() {
    let config = Config::load(&Inputs::default()).unwrap();
    assert_eq!(config.first_addr().to_string(), "127.0.0.1:8080");
    assert_eq!(config.limits, Limits::default());
    assert!(config.rate_enabled);
    assert_eq!(config.public_url, None);
    assert_eq!(config.auth.jwt_secret, None);
}

#[test]
fn flags_lie_over_environment_over_file_over_defaults() {
    let (_folder, mut inputs) = file(
        "listen = \"127.0.0.1:1\"\ndata_dir = \"from-file\"\nlog = \"warn\"\n[limits]\nconnections_per_user = 3\n\
         [cors]\norigins = [\"https://a.example\"]",
    );
    inputs.env = env(&[
        ("STACK_LISTEN", "127.0.0.1:2"),
        ("STACK_DATA_DIR", "from-env"),
        ("STACK_LOG", ""),
    ])
    .env;
    inputs.flags = vec![Flag {
        key: "listen",
        name: "--listen",
        value: "127.0.0.1:3".into(),
    }];
    let config = Config::load(&inputs).unwrap();
    assert_eq!(config.first_addr().port(), 3);
    assert_eq!(config.data_dir, PathBuf::from("from-env"));
    assert_eq!(config.log, "warn", "an empty variable is not set");
    assert_eq!(config.limits.connections_per_user, 3);
    assert_eq!(config.cors_origins[0].as_str(), "https://a.example");
}

#[test]
fn every_fault_of_every_source_is_told_at_once() {
    let (_folder, mut inputs) = file(
        "listen = 8080\ncolour = \"red\"\n[limits]\nconections_per_user = 3\npage_events = 0\n[tls]\ncert = \"no/such.pem\"\n\
         [nowhere]\na = 1",
    );
    inputs.env = env(&[
        ("STACK_BUS_URL", "bus+tcp://127.0.0.1:1"),
        ("AUTH_JWT_SECRET", "hunter2"),
        ("STACK_PUBLIC_URL", "http://chat.example"),
        ("STACK_LIMITS_NOTHING", "1"),
        ("STACK_DATADIR", "x"),
        ("STACK_TLS_KEYS", "x"),
        ("STACK_LOG_LEVEL", "debug"),
        ("AUTH_JWT_SECRETS", "x"),
    ])
    .env;
    inputs.flags = vec![Flag {
        key: "log_format",
        name: "--log-format",
        value: "xml".into(),
    }];
    let faults = faults(&inputs);
    let expected = [
        "listen: must be a string or an array of strings",
        "colour: unknown setting",
        "limits.conections_per_user: unknown setting; did you mean limits.connections_per_user?",
        "tls.cert: tls.key is not set",
        "nowhere: unknown setting",
        "environment STACK_LIMITS_NOTHING: unknown variable",
        "environment STACK_DATADIR: unknown variable; did you mean STACK_DATA_DIR?",
        "environment STACK_TLS_KEYS: unknown variable; did you mean STACK_TLS_KEY?",
        "environment STACK_LOG_LEVEL: unknown variable; did you mean STACK_LOG?",
        "environment AUTH_JWT_SECRETS: unknown variable; did you mean AUTH_JWT_SECRET?",
        "bus.url: \"bus+tcp://127.0.0.1:1\" is not a bus URL",
        "auth.jwt_secret: a secret has at least 32 bytes, this one has 7",
        "public_url: \"http://chat.example\" is plain HTTP",
        "log_format: \"xml\" is neither",
        "limits.page_events: 0 is not between",
    ];
    for start in expected {
        assert!(
            faults.iter().any(|fault| fault.starts_with(start)),
            "no fault starts with {start:?} in {faults:#?}"
        );
    }
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    assert!(!faults.concat().contains("hunter2"));
}

#[test]
fn a_certificate_and_its_key_have_to_be_there_and_belong_together() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let pair = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (first, second) = (pair(), pair());
    let cert = file("cert.pem", &first.cert.pem());
    let key = file("key.pem", &first.signing_key.serialize_pem());
    let other_key = file("other.pem", &second.signing_key.serialize_pem());
    let torn = file("torn.pem", &first.cert.pem()[..200]);
    let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no_der = file("no-der.pem", no_der);
    let empty = file("empty.pem", "");
    let sealed = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
                  DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\nAAAA\n\
                  -----END RSA PRIVATE KEY-----\n";
    let sealed = file("sealed.pem", sealed);
    let load = |cert: &str, key: &str| {
        Config::load(&env(&[("STACK_TLS_CERT", cert), ("STACK_TLS_KEY", key)]))
    };
    assert!(load(&cert, &key).unwrap().tls.is_some());

    // Who does not serve needs none of it, and may be the one to put it right.
    let looks_after = Inputs {
        leaves_certificates: true,
        ..env(&[("STACK_TLS_CERT", "no/such.pem"), ("STACK_TLS_KEY", &torn)])
    };
    assert!(Config::load(&looks_after).unwrap().tls.is_some());

    let told = |cert: &str, key: &str| load(cert, key).unwrap_err().to_string();
    for (cert, key, variable, reason) in [
        ("no/such.pem", &*key, "CERT: tls.cert", "cannot be read"),
        (&*torn, &*key, "CERT: tls.cert", "is not PEM"),
        (&*empty, &*key, "CERT: tls.cert", "has no certificate"),
        (
            &*no_der,
            &*key,
            "CERT: tls.cert",
            "this is not a certificate",
        ),
        (&*cert, "no/such.pem", "KEY: tls.key", "cannot be read"),
        (&*cert, &*cert, "KEY: tls.key", "has no private key"),
        (
            &*cert,
            &*sealed,
            "KEY: tls.key",
            "is sealed with a passphrase",
        ),
        (&*cert, &*other_key, "KEY: tls.key", "is not the key of"),
        (&*cert, "", "CERT: tls.cert", "tls.key is not set"),
        ("", &*key, "KEY: tls.key", "tls.cert is not set"),
    ] {
        let told = told(cert, key);
        let expected = format!("environment STACK_TLS_{variable}: ");
        assert!(told.contains(&expected) && told.contains(reason), "{told}");
    }
    let plain = [
        ("STACK_TLS_CERT", &*cert),
        ("STACK_TLS_KEY", &*key),
        ("STACK_PUBLIC_URL", "http://localhost:8080"),
    ];
    assert!(faults(&env(&plain))[0].starts_with("public_url: plain HTTP"));
}

#[test]
fn settings_of_tls_without_what_they_belong_to_are_faults() {
    let domains = ("STACK_TLS_ACME_DOMAINS", "chat.example.com, example.com");
    let public = ("STACK_PUBLIC_URL", "https://chat.example.com");
    assert!(
        Config::load(&env(&[domains, public]))
            .unwrap()
            .tls
            .is_some()
    );
    for (given, fault) in [
        (
            vec![("STACK_TLS_CLIENT_CA", "ca.pem")],
            "tls.client_ca: there is no TLS",
        ),
        (
            vec![("STACK_TLS_REDIRECT_LISTEN", "0.0.0.0:80")],
            "tls.redirect_listen: there is no TLS",
        ),
        (
            vec![("STACK_TLS_ACME_CONTACT", "ops@example.com")],
            "tls.acme.contact: nothing is asked for",
        ),
        (vec![domains], "tls.acme.domains: public_url has to say"),
        (
            vec![domains, ("STACK_PUBLIC_URL", "https://www.example.com")],
            "tls.acme.domains: www.example.com, under which",
        ),
        (
            vec![
                ("STACK_TLS_CERT", "a"),
                ("STACK_TLS_KEY", "a"),
                ("STACK_TLS_REDIRECT_LISTEN", "0.0.0.0:80"),
            ],
            "tls.redirect_listen: public_url has to say",
        ),
        (
            vec![domains, public, ("STACK_TLS_CERT", "a")],
            "tls.acme.domains: a certificate comes from",
        ),
        (
            vec![domains, public, ("STACK_TLS_CLIENT_CA", "ca.pem")],
            "tls.client_ca: the authority",
        ),
        (
            vec![domains, public, ("STACK_TLS_ACME_CA", "no/such.pem")],
            "tls.acme.ca: no/such.pem cannot be read",
        ),
        (
            vec![domains, public, ("STACK_TLS_ACME_CONTACT", "nobody")],
            "tls.acme.contact: \"nobody\" is not",
        ),
        (
            vec![domains, public, ("STACK_TLS_ACME_DIRECTORY", "http://x")],
            "tls.acme.directory: is not an https",
        ),
        (
            vec![
                domains,
                public,
                ("STACK_TLS_ACME_DIRECTORY", "https://me:hunter2@x/dir"),
            ],
            "tls.acme.directory: is not an https",
        ),
        (
            vec![("STACK_TLS_ACME_DOMAINS", "192.0.2.1"), public],
            "tls.acme.domains: \"192.0.2.1\" is not a domain",
        ),
        (
            vec![("STACK_LISTEN", "unix:/run/a.sock")],
            "listen: with Unix sockets alone public_url",
        ),
        (vec![("STACK_LISTEN", ",")], "listen: there is no address"),
        (vec![("STACK_TLS_MIN_VERSION", "1.1")], "tls.min_version: "),
    ] {
        let faults = faults(&env(&given));
        assert!(
            faults.iter().any(|told| told.starts_with(fault)),
            "{given:?}: {faults:?}"
        );
    }
}

#[test]
fn there_may_be_one_address_or_several() {
    for (text, count) in [
        ("listen = \"127.0.0.1:1\"", 1),
        ("listen = [\"127.0.0.1:1\", \"unix:/run/a.sock\"]", 2),
    ] {
        let (_folder, inputs) = file(text);
        assert_eq!(Config::load(&inputs).unwrap().listen.len(), count);
        // What is in force can be written into a file again.
        assert!(effective(&inputs).contains(text));
    }
}

#[test]
fn a_fault_names_its_source() {
    let Faults(found) = Config::load(&env(&[("STACK_LISTEN", "nowhere")])).unwrap_err();
    assert_eq!(found[0].source, "environment STACK_LISTEN");
    assert_eq!(
        found[0].to_string(),
        "environment STACK_LISTEN: listen: \"nowhere\" is neither an address and port such as 127.0.0.1:8080 \
         nor a socket such as unix:/run/stack.sock"
    );
}

#[test]
fn other_programs_may_use_the_prefix() {
    let inputs = env(&[
        ("STACK_ROOT", "/x"),
        ("AUTH_TOKEN", "x"),
        ("STACK_SERVICE_HOST", "10.0.0.1"),
        ("STACK_DEV_GATEWAY", "x"),
    ]);
    assert!(Config::load(&inputs).is_ok());
}

#[test]
fn files_of_tls_that_are_missing_are_all_told() {
    let told = faults(&env(&[
        ("STACK_TLS_CERT", "no/cert.pem"),
        ("STACK_TLS_KEY", "no/key.pem"),
        ("STACK_TLS_CLIENT_CA", "no/ca.pem"),
    ]));
    assert_eq!(told.len(), 3, "{told:#?}");
    for file in ["no/cert.pem", "no/key.pem", "no/ca.pem"] {
        let is_told = |told: &String| told.contains(file) && told.contains("cannot be read");
        assert!(told.iter().any(is_told), "{told:#?}");
    }
}

#[test]
fn folders_that_cannot_be_are_found_before_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "").unwrap();
    let inputs = |data: &Path, logs: &Path| {
        env(&[
            ("STACK_DATA_DIR", data.to_str().unwrap()),
            ("STACK_LOG_DIR", logs.to_str().unwrap()),
        ])
    };
    let new = folder.path().join("new/one");
    Config::check(&inputs(&new, folder.path())).unwrap();
    // Nothing is left of the look.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let Faults(told) = Config::check(&inputs(&taken.join("below"), &taken)).unwrap_err();
    let keys: Vec<_> = told.iter().map(|fault| &*fault.key).collect();
    assert_eq!(keys, ["data_dir", "log_dir"]);
    assert!(told[0].reason.contains("cannot be written"), "{told:?}");
    // A folder for backups is not made: it may be a disk that is not there.
    for wrong in [&new, &taken] {
        let to = wrong.to_str().unwrap();
        let Faults(told) = Config::check(&env(&[("STACK_BACKUP_TO", to)])).unwrap_err();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].key, "backup.to");
    }
}

#[test]
fn what_is_at_fault_is_not_printed() {
    for (name, wrong) in [
        ("STACK_BACKUP_RECIPIENTS", "AGE-SECRET-KEY-1HUNTER2"),
        (
            "STACK_BACKUP_S3_ENDPOINT",
            "https://u:hunter2@s3.example.com",
        ),
        (
            "STACK_TRACE_OTLP_ENDPOINT",
            "https://u:hunter2@otlp.example.com",
        ),
        (
            "STACK_AUTH_OAUTH_OURS_ISSUER",
            "https://u:hunter2@id.example.com",
        ),
    ] {
        let inputs = env(&[(name, wrong)]);
        Config::load(&inputs).unwrap_err();
        let shown = effective(&inputs).to_lowercase();
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("is at fault"), "{shown}");
    }
}

#[cfg(unix)]
#[test]
fn a_secret_that_everybody_can_read_is_worth_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef").unwrap();
    for (mode, warnings) in [(0o644, 1), (0o640, 0)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let inputs = env(&[("AUTH_JWT_SECRET_FILE", file.to_str().unwrap())]);
        let found = Config::load(&inputs).unwrap().warnings;
        assert_eq!(found.len(), warnings, "{found:?}");
        let is_right = |told: &String| told.starts_with("auth.jwt_secret: ");
        assert!(found.iter().all(is_right), "{found:?}");
    }
}

#[test]
fn a_file_that_was_asked_for_must_be_readable() {
    let missing = Some(PathBuf::from("no/such/stack.toml"));
    let asked_for = Inputs {
        config_file: missing.clone(),
        ..Inputs::default()
    };
    assert!(faults(&asked_for)[0].contains("cannot be read"));
    let not_asked_for = Inputs {
        default_file: missing,
        ..Inputs::default()
    };
    assert!(Config::load(&not_asked_for).is_ok());
}

#[test]
fn what_is_torn_hides_nothing_else_and_is_told_once() {
    let (_folder, inputs) = file(
        "log = = 3\n[http]\ntimeout_s = 99999999999999999999\ntimeout_s = 1\n[http]\nx = 1\n[auth]\nconnections = 1\n\
         [tls]\ncert = \"cert.pem\n",
    );
    let Faults(found) = Config::load(&inputs).unwrap_err();
    let told: Vec<_> = found
        .iter()
        .map(|fault| {
            let (_, place) = fault.source.rsplit_once(':').unwrap();
            format!("{place} {}: {}", fault.key, fault.reason)
        })
        .collect();
    let expected = [
        "1 : extra `=`",
        "3 http.timeout_s: the number is too large",
        "4 : duplicate key",
        "5 : duplicate key",
        "6 http.x: unknown setting",
        "8 auth.connections: unknown setting; did you mean ipc.connections?",
        "10 : invalid basic string",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, start) in told.iter().zip(expected) {
        assert!(told.starts_with(start), "{told:#?}");
    }
}

#[test]
fn what_was_probably_meant_is_told() {
    let (_folder, inputs) = file(
        "LISTEN = \"x\"\ndata-dir = \"x\"\nregistration = \"closed\"\n[Limits]\npage_events = 1\n[stroage]\nx = 1\n\
         [nothing]\nlike = \"it\"\n",
    );
    let expected = [
        "LISTEN: unknown setting; did you mean listen?",
        "data-dir: unknown setting; did you mean data_dir?",
        "registration: unknown setting; did you mean auth.registration?",
        "Limits: unknown setting; did you mean the section [limits]?",
        "stroage: unknown setting; did you mean the section [storage]?",
        "nothing: unknown setting",
    ];
    assert_eq!(faults(&inputs), expected);
    let (_folder, inputs) = file("data_dir = \"\"\n");
    assert_eq!(faults(&inputs), ["data_dir: a path is not empty"]);
}

#[test]
fn what_is_in_force_names_its_line() {
    let (_folder, inputs) = file("# a comment\n\nlog = \"warn\"\n[http]\ntimeout_s = 7\n");
    let shown = effective(&inputs);
    for (line, place) in [("log = \"warn\"", 3), ("timeout_s = 7", 5)] {
        let found = shown.lines().find(|shown| shown.starts_with(line)).unwrap();
        assert!(found.ends_with(&format!("stack.toml:{place}")), "{found}");
    }
}

#[test]
fn broken_toml_names_its_line() {
    let (_folder, inputs) = file("listen = \"127.0.0.1:1\"\nlog = = 3\n");
    assert!(
        faults(&inputs)[0].contains("stack.toml:2: "),
        "{:?}",
        faults(&inputs)
    );
}

#[test]
fn limits_have_to_fit_into_each_other() {
    let found = faults(&env(&[
        ("STACK_LIMITS_FRAME_BYTES", "2048"),
        ("STACK_LIMITS_HTTP_BODY_BYTES", "1024"),
    ]));
    assert!(
        found
            .iter()
            .any(|fault| fault.starts_with("limits.frame_bytes: ")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|fault| fault.starts_with("limits.http_body_bytes: ")),
        "{found:?}"
    );
}

#[test]
fn providers_are_shown_without_their_secrets() {
    let shown = effective(&env(&[
        ("STACK_AUTH_OAUTH_OUR_OWN_ISSUER", "https://id.example"),
        ("STACK_AUTH_OAUTH_OUR_OWN_CLIENT_ID", "stack"),
        ("STACK_AUTH_OAUTH_OUR_OWN_CLIENT_SECRET", "do-not-show"),
        ("STACK_AUTH_OAUTH_OUR_OWN_SCOPES", "openid email"),
        ("STACK_AUTH_OAUTH_OUR_OWN_ALLOW_REGISTRATION", "false"),
    ]));
    assert!(!shown.contains("do-not-show"), "{shown}");
    assert!(shown.contains("# client_secret is set"), "{shown}");
    // It is a file that can be used, once the secret is written in.
    let file_text = shown.replace("# client_secret is set", "client_secret = \"x\"");
    let (_folder, inputs) = file(&file_text);
    let providers = Config::load(&inputs).unwrap().auth.oauth;
    assert_eq!(providers[0].name, "our-own");
    assert_eq!(providers[0].scopes, ["openid", "email"]);
    assert!(!providers[0].allow_registration);
    assert!(default_file().contains("[auth.oauth."));
}

#[test]
fn the_default_file_is_a_valid_file_of_the_defaults() {
    let (_folder, inputs) = file(&default_file());
    let from_file = Config::load(&inputs).unwrap();
    assert_eq!(format!("{from_file:?}"), format!("{:?}", Config::default()));
}

#[test]
fn what_is_in_force_is_told_without_secrets() {
    let shown = effective(&env(&[
        ("AUTH_JWT_SECRET", "0123456789abcdef0123456789abcdef"),
        ("STACK_LISTEN", "127.0.0.1:9"),
    ]));
    assert!(
        shown.contains("listen = \"127.0.0.1:9\"  # environment STACK_LISTEN"),
        "{shown}"
    );
    assert!(
        shown.contains("# jwt_secret is set  # environment AUTH_JWT_SECRET"),
        "{shown}"
    );
    assert!(!shown.contains("0123456789abcdef"));
    assert!(shown.parse::<toml::Table>().is_ok());
}

#[test]
fn providers_stand_in_sections_and_in_the_environment() {
    let (_folder, mut inputs) = file(
        "[auth.oauth.github]\npreset = \"github\"\nclient_id = \"id\"\nclient_secret = \"from-file\"\n\
         [auth.oauth.our-own]\nissuer = \"http://127.0.0.1:9000/oidc\"\nclient_id = \"a\"\nclient_secret = \"b\"\n\
         title = \"Our own\"\nscopes = [\"openid\", \"email\"]\nallow_registration = false\n",
    );
    inputs.env = vec![
        (
            "STACK_AUTH_OAUTH_GITHUB_CLIENT_SECRET".into(),
            "from-env".into(),
        ),
        ("STACK_AUTH_OAUTH_OUR_OWN_TITLE".into(), "Ours".into()),
    ];
    let providers = Config::load(&inputs).unwrap().auth.oauth;
    let [github, ours] = providers.as_slice() else {
        panic!("{providers:?}");
    };
    assert_eq!(github.preset, Some(Preset::Github));
    assert_eq!(github.client_secret.expose(), "from-env");
    assert!(github.allow_registration && github.scopes.is_empty());
    assert!(!format!("{github:?}").contains("from-env"));
    assert_eq!(
        (ours.name.as_str(), ours.title.as_str()),
        ("our-own", "Ours")
    );
    assert_eq!(
        ours.issuer.as_ref().unwrap().as_str(),
        "http://127.0.0.1:9000/oidc"
    );
    assert_eq!(ours.scopes, ["openid", "email"]);
    assert!(!ours.allow_registration);
}

#[test]
fn a_faulty_provider_stops_the_start() {
    let whole = "client_id = \"a\"\nclient_secret = \"b\"\n";
    let issuer = "issuer = \"https://id.example\"\n";
    for (section, key) in [
        (format!("[auth.oauth.x]\n{whole}"), "auth.oauth.x.issuer"),
        (
            format!("[auth.oauth.x]\n{issuer}client_id = \"a\"\n"),
            "auth.oauth.x.client_secret",
        ),
        (
            format!("[auth.oauth.x]\n{issuer}client_secret = \"a\"\n"),
            "auth.oauth.x.client_id",
        ),
        (
            format!("[auth.oauth.x]\n{whole}issuer = \"http://id.example\"\n"),
            "auth.oauth.x.issuer",
        ),
        (
            format!("[auth.oauth.x]\n{whole}issuer = \"id.example\"\n"),
            "auth.oauth.x.issuer",
        ),
        (
            format!("[auth.oauth.x]\n{whole}preset = \"myspace\"\n"),
            "auth.oauth.x.preset",
        ),
        (
            format!("[auth.oauth.x]\n{whole}{issuer}preset = \"github\"\n"),
            "auth.oauth.x.issuer",
        ),
        (
            format!("[auth.oauth.x]\n{whole}{issuer}secret = \"no\"\n"),
            "auth.oauth.x.secret",
        ),
        (
            format!("[auth.oauth.x]\n{whole}{issuer}scopes = 7\n"),
            "auth.oauth.x.scopes",
        ),
        (format!("[auth.oauth.X]\n{whole}{issuer}"), "auth.oauth.X"),
        ("[auth.oauth]\nx = 1\n".to_owned(), "auth.oauth.x"),
        ("[auth]\noauth = 1\n".to_owned(), "auth.oauth"),
    ] {
        let (_folder, inputs) = file(&section);
        let faults = faults(&inputs);
        assert!(
            faults
                .iter()
                .any(|fault| fault.starts_with(&format!("{key}: "))),
            "{section}{faults:?}"
        );
    }
    let faults = faults(&env(&[("STACK_AUTH_OAUTH_X_SECRET", "no")]));
    assert!(
        faults[0].starts_with("environment STACK_AUTH_OAUTH_X_SECRET: "),
        "{faults:?}"
    );
}

#[cfg(all(feature = "with-nng", feature = "with-zmq"))]
#[test]
fn the_bus_leaves_the_machine_only_with_keys() {
    let bus = |pairs: &[(&str, &str)]| Config::load(&env(pairs)).map(|config| config.bus);
    let plain = bus(&[
        ("STACK_BUS_URL", "zmq+tcp://127.0.0.1:5556"),
        ("STACK_BUS_PUBLISH", "nng+ipc:///run/a, zmq+tcp://[::1]:7"),
        ("STACK_BUS_SUBSCRIBE", "nng+tcp://localhost:8"),
    ])
    .unwrap();
    assert_eq!((plain.publish.len(), plain.subscribe.len()), (2, 1));
    assert!(plain.curve.is_none());

    let found = faults(&env(&[
        ("STACK_BUS_URL", "zmq+tcp://0.0.0.0:5556"),
        ("STACK_BUS_PUBLISH", "nng+tcp://192.0.2.1:5556,mem:"),
        ("STACK_BUS_SUBSCRIBE", "zmq+tcp://origin.example:1"),
        ("STACK_BUS_CURVE_SERVER_KEY", "short"),
    ]));
    let expected = [
        "bus.curve_server_key: a key is 40 characters",
        "bus.url: zmq+tcp://0.0.0.0:5556: ZeroMQ over TCP leaves this machine only with CURVE keys",
        "bus.publish: nng+tcp://192.0.2.1:5556: nng has no encryption",
        "bus.publish: mem: stays in this process",
        "bus.subscribe: zmq+tcp://origin.example:1: ZeroMQ over TCP",
    ];
    for start in expected {
        assert!(
            found.iter().any(|fault| fault.starts_with(start)),
            "{found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[cfg(feature = "with-zmq")]
#[test]
fn keys_of_the_bus_are_read_from_files_that_others_cannot_read() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let public = crate::bus_keys::make(&path("keys")).unwrap().to_string();
    assert!(
        crate::bus_keys::make(&path("keys")).is_err(),
        "never over another"
    );
    let keys = path("keys").to_str().unwrap().to_owned();
    std::fs::write(path("readers"), format!("# the archive\n{public}\n")).unwrap();
    let readers = path("readers").to_str().unwrap().to_owned();
    let set = |url: &str, more: &[(&str, &str)]| {
        let mut pairs = vec![
            ("STACK_BUS_URL", url),
            ("STACK_BUS_CURVE_SECRET_KEY_FILE", &keys),
        ];
        pairs.extend(more);
        env(&pairs)
    };
    let open = "zmq+tcp://0.0.0.0:5556";
    let authorized = ("STACK_BUS_CURVE_AUTHORIZED_KEYS_FILE", &*readers);
    let curve = Config::load(&set(open, &[authorized]))
        .unwrap()
        .bus
        .curve
        .unwrap();
    assert_eq!(curve.keys.public().to_string(), public);
    assert_eq!(curve.authorized.len(), 1);
    assert!(faults(&set(open, &[]))[0].contains("nobody may dial"));
    let dialled = [
        authorized,
        ("STACK_BUS_SUBSCRIBE", "zmq+tcp://origin.example:1"),
    ];
    assert!(faults(&set(open, &dialled))[0].contains("of who is dialled is not known"));

    std::fs::write(path("readers"), format!("{public}\nno key\n")).unwrap();
    assert!(faults(&set(open, &[authorized]))[0].contains("line 2 is no key"));
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(faults(&set("mem:", &[]))[0].contains("others may read it"));
}

#[test]
fn secrets_may_stand_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key = "0123456789abcdef0123456789abcdef";
    let jwt = secret("jwt", &format!("{key}\n"));
    let client = secret("client", "hunter2\r\n");

    let inputs = env(&[
        ("AUTH_JWT_SECRET_FILE", &jwt),
        ("STACK_AUTH_OAUTH_GITHUB_PRESET", "github"),
        ("STACK_AUTH_OAUTH_GITHUB_CLIENT_ID", "id"),
        ("STACK_AUTH_OAUTH_GITHUB_CLIENT_SECRET_FILE", &client),
    ]);
    let config = Config::load(&inputs).unwrap();
    assert_eq!(config.auth.jwt_secret.unwrap().expose(), key);
    assert_eq!(config.auth.oauth[0].client_secret.expose(), "hunter2");
    let shown = effective(&inputs);
    assert!(
        !shown.contains(key) && !shown.contains("hunter2"),
        "{shown}"
    );

    let (_folder, inputs) = file(&format!(
        "[auth]\njwt_secret_file = {jwt:?}\n[auth.oauth.github]\npreset = \"github\"\nclient_id = \"id\"\nclient_secret_file = {client:?}"
    ));
    let config = Config::load(&inputs).unwrap();
    assert_eq!(config.auth.jwt_secret.unwrap().expose(), key);
    assert_eq!(config.auth.oauth[0].client_secret.expose(), "hunter2");
}

#[test]
fn a_secret_of_the_environment_lies_over_a_file_that_stack_toml_names() {
    let (folder, mut inputs) = file("[auth]\njwt_secret_file = \"/nowhere/at/all\"");
    let key = "0123456789abcdef0123456789abcdef";
    let path = folder.path().join("jwt");
    std::fs::write(&path, key).unwrap();
    inputs.env = env(&[("AUTH_JWT_SECRET_FILE", path.to_str().unwrap())]).env;
    // What lies below is read all the same, so that a fault in it is told.
    let told = faults(&inputs);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("auth.jwt_secret_file: /nowhere/at/all cannot be read"));
}

#[test]
fn a_secret_is_set_once_and_its_file_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    let long = folder.path().join("long");
    std::fs::write(&long, vec![b'x'; 65 * 1024]).unwrap();
    let (empty, long) = (empty.to_str().unwrap(), long.to_str().unwrap());
    let key = "0123456789abcdef0123456789abcdef";
    for (inputs, reason) in [
        (env(&[("AUTH_JWT_SECRET_FILE", empty)]), "is empty"),
        (
            env(&[("AUTH_JWT_SECRET_FILE", long)]),
            "is not a file that holds a secret",
        ),
        (
            env(&[("AUTH_JWT_SECRET_FILE", "/dev/zero")]),
            "is not a file that holds a secret",
        ),
        (
            env(&[("AUTH_JWT_SECRET_FILE", "/nowhere")]),
            "cannot be read",
        ),
        (
            env(&[("AUTH_JWT_SECRET_FILE", long), ("AUTH_JWT_SECRET", key)]),
            "auth.jwt_secret is set as well",
        ),
        (env(&[("STACK_TLS_KEY_FILE", long)]), "unknown variable"),
    ] {
        let told = faults(&inputs);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(reason), "{told:?}");
    }
}

#[test]
fn the_page_of_settings_is_what_the_code_says() {
    let page = include_str!("../../../../docs/CONFIG.md");
    assert!(
        page == reference(),
        "docs/CONFIG.md is out of date: stack-gateway config reference > docs/CONFIG.md"
    );
}
