//! The house is built as DESIGN.md says: who may import whom, who alone may use what, and how things are named.
//!
//! The tables here are the rule. A new crate needs a row; a new edge is a decision about the architecture, and is
//! made in `docs/adr/` before it is made here.

#![expect(clippy::unwrap_used, reason = "a test stops at what must not happen")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

const PREFIX: &str = "stack-";

/// May stand on every crate, and only tests may stand on it.
const TESTKIT: &str = "testkit";

/// The crates of the workspace and those they may import. Without the prefix.
const IMPORTS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("proto", &["types"]),
    ("bus", &["types"]),
    ("storage", &["types"]),
    ("rate", &["types"]),
    ("delivery", &["types", "storage", "bus"]),
    ("auth", &["types", "storage"]),
    ("presence", &["types", "bus", "storage"]),
    ("rooms", &["types", "storage", "bus", "delivery", "rate"]),
    ("ipc", &["types", "proto"]),
    (
        "gateway",
        &[
            "types", "proto", "bus", "storage", "rate", "delivery", "auth", "presence", "rooms",
            "ipc",
        ],
    ),
    // Daemons: other processes, which know the gateway by its socket only.
    ("daemon", &[]),
    ("archiver", &["types", "ipc", "daemon"]),
    ("bot", &["types", "ipc", "daemon"]),
    // It measures from outside; the bus it measures between two processes of its own, beside bare sockets, and the local
    // socket as a program, beside a bare loop over the same messages.
    ("bench", &["types", "bus", "ipc", "proto"]),
];

/// What tests may import besides. The crates that hand events on are tested with the frames that go out, and
/// `proto` makes those; nothing of it is in what they are at run time.
const TEST_IMPORTS: &[(&str, &[&str])] = &[
    ("storage", &["proto"]),
    ("delivery", &["proto"]),
    ("rooms", &["proto"]),
];

/// Libraries that only these crates may use. What a transport, an engine or a framework is called ends there.
const OWNED: &[(&str, &[&str])] = &[
    ("argon2", &["auth"]),
    ("async-nats", &["bus", "storage"]),
    ("axum", &["gateway"]),
    ("capnp", &["proto", "ipc", "bench"]),
    ("capnp-rpc", &["ipc", "bench"]),
    ("capnpc", &["proto"]),
    ("clap", &["gateway", "bench", "archiver", "bot"]),
    ("hyper", &["gateway"]),
    ("jsonwebtoken", &["auth"]),
    ("nng", &["bus", "bench"]),
    ("oauth2", &["auth"]),
    ("openidconnect", &["auth"]),
    // For the floor that the storage is measured against.
    ("redb", &["storage", "bench"]),
    ("opentelemetry", &["gateway"]),
    ("opentelemetry-proto", &["gateway"]),
    ("opentelemetry_sdk", &["gateway"]),
    ("totp-rs", &["auth"]),
    ("tower", &["gateway"]),
    ("tower-http", &["gateway"]),
    ("tracing-subscriber", &["gateway", "bench", "daemon"]),
    ("tungstenite", &["gateway"]),
    ("webauthn-rs", &["auth"]),
    ("zmq", &["bus", "bench"]),
];

/// Libraries that these crates never use: `types`, `proto` and `rate` do no I/O, `auth` knows no HTTP.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("types", &["tokio", "tracing"]),
    ("proto", &["tokio", "tracing"]),
    ("rate", &["tokio", "tracing"]),
    (
        "auth",
        &["http", "http-body-util", "hyper-util", "tungstenite"],
    ),
    ("delivery", &["http", "tungstenite"]),
    ("rooms", &["http", "tungstenite"]),
];

fn workspace() -> Metadata {
    MetadataCommand::new()
        .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap()
}

/// A package's name without the prefix.
fn short(package: &Package) -> &str {
    package.name.strip_prefix(PREFIX).unwrap_or(&package.name)
}

fn row<'a>(table: &'a [(&str, &'a [&'a str])], name: &str) -> Option<&'a [&'a str]> {
    table
        .iter()
        .find(|(row, _)| *row == name)
        .map(|(_, cells)| *cells)
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn crates_import_only_whom_they_may() {
    let mut faults = Vec::new();
    for package in workspace().packages {
        let name = short(&package);
        let allowed = row(IMPORTS, name);
        if allowed.is_none() && name != TESTKIT {
            faults.push(format!("{name} has no row in the table of imports"));
        }
        for dependency in &package.dependencies {
            let Some(import) = dependency.name.strip_prefix(PREFIX) else {
                continue;
            };
            let in_tests = dependency.kind == DependencyKind::Development;
            let listed = |row: Option<&[&str]>| row.is_some_and(|row| row.contains(&import));
            let fine = match (name, import) {
                (_, TESTKIT) => in_tests,
                (TESTKIT, _) => true,
                _ => listed(allowed) || in_tests && listed(row(TEST_IMPORTS, name)),
            };
            if !fine {
                faults.push(format!(
                    "{name} may not import {import} ({:?})",
                    dependency.kind
                ));
            }
        }
    }
    none(&faults);
}

#[test]
fn libraries_stay_with_their_owners() {
    let mut faults = Vec::new();
    for package in workspace().packages {
        let name = short(&package);
        for dependency in &package.dependencies {
            let library = dependency.name.as_str();
            if row(OWNED, library).is_some_and(|owners| !owners.contains(&name)) {
                faults.push(format!("{name} may not use {library}, others own it"));
            }
            if row(FORBIDDEN, name).is_some_and(|libraries| libraries.contains(&library)) {
                faults.push(format!("{name} may not use {library}"));
            }
        }
    }
    none(&faults);
}

#[test]
fn packages_carry_the_prefix_and_folders_do_not() {
    let metadata = workspace();
    let root = metadata.workspace_root.as_std_path();
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let folder = package.manifest_path.parent().unwrap().as_std_path();
        let place = folder.strip_prefix(root).unwrap();
        let expected = ["apps", "crates"].map(|parent| Path::new(parent).join(short(package)));
        if !package.name.starts_with(PREFIX) || !expected.iter().any(|path| path == place) {
            faults.push(format!("{} stands in {}", package.name, place.display()));
        }
    }
    none(&faults);
}

/// The manifest of a package, as it is written.
fn manifest(path: &Path) -> toml::Table {
    fs::read_to_string(path).unwrap().parse().unwrap()
}

#[test]
fn versions_and_lints_stand_in_the_workspace() {
    let inherits =
        |value: &toml::Value| value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
    let mut faults = Vec::new();
    for package in workspace().packages {
        let name = short(&package);
        let manifest = manifest(package.manifest_path.as_std_path());
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let dependencies = manifest.get(table).and_then(toml::Value::as_table);
            for (library, value) in dependencies.into_iter().flatten() {
                if !inherits(value) {
                    faults.push(format!("{name} gives {library} a version of its own"));
                }
            }
        }
        if !manifest.get("lints").is_some_and(inherits) {
            faults.push(format!("{name} does not take the lints of the workspace"));
        }
    }
    none(&faults);
}

fn sources(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.insert(path);
        }
    }
}

#[test]
fn files_say_what_they_are_for() {
    let metadata = workspace();
    let mut found = BTreeSet::new();
    for package in &metadata.packages {
        let folder = package.manifest_path.parent().unwrap().as_std_path();
        for part in ["src", "tests", "benches"] {
            if folder.join(part).is_dir() {
                sources(&folder.join(part), &mut found);
            }
        }
    }
    let mut faults = Vec::new();
    for path in &found {
        let place = path
            .strip_prefix(metadata.workspace_root.as_std_path())
            .unwrap()
            .display();
        let text = fs::read_to_string(path).unwrap();
        // A generated file starts with an attribute or a comment of its generator.
        if !text.starts_with("//! ") && !text.contains("@generated") {
            faults.push(format!("{place} does not open with what it is for"));
        }
        if path.file_name().is_some_and(|name| name == "mod.rs") {
            faults.push(format!(
                "{place} is called mod.rs; name it after its folder"
            ));
        }
    }
    assert!(
        found.len() > metadata.packages.len(),
        "the sources were not found"
    );
    none(&faults);
}

/// The audit log is appended to by one function, under a number that nothing has yet, and nothing is taken from it.
#[test]
fn the_audit_log_is_append_only() {
    let root = workspace().workspace_root.into_std_path_buf();
    let folder = root.join("crates/storage/src");
    let mut found = BTreeSet::new();
    sources(&folder, &mut found);
    let mut naming = Vec::new();
    for path in &found {
        let text = fs::read_to_string(path).unwrap();
        if text.contains("AUDIT") || text.contains("\"audit\"") {
            naming.push(path.strip_prefix(&folder).unwrap().to_owned());
        }
    }
    let expected = ["accounts/audit.rs", "accounts/tables.rs"].map(PathBuf::from);
    assert_eq!(naming, expected, "nothing else names the table of the log");
    let text = fs::read_to_string(folder.join(&expected[0])).unwrap();
    let count = |what: &str| text.matches(what).count();
    assert_eq!(
        count("tables::AUDIT"),
        3,
        "it is opened to append, to read and to look it over"
    );
    assert_eq!(count("table.insert("), 1);
    for takes in [
        ".remove",
        ".retain",
        ".extract",
        ".pop_",
        ".drain",
        ".get_mut",
        "delete_table",
    ] {
        assert_eq!(count(takes), 0, "{takes}");
    }
}

/// The list of past faults of others in `docs/SECURITY.md` names tests that there are.
#[test]
fn every_past_fault_has_its_test() {
    let root = workspace().workspace_root.into_std_path_buf();
    let page = fs::read_to_string(root.join("docs/SECURITY.md")).unwrap();
    let mut faults = Vec::new();
    let mut rows = 0;
    for line in page.lines().filter(|line| line.starts_with("| †")) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let tests: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        rows += 1;
        if tests.is_empty() {
            faults.push(format!("no test: {line}"));
        }
        for test in tests {
            let (file, name) = test.split_once(": ").unwrap();
            let text = fs::read_to_string(root.join(file)).unwrap_or_default();
            let stands =
                text.contains(&format!("fn {name}(")) || text.contains(&format!("'{name}'"));
            if !stands {
                faults.push(format!("{file} has no {name}"));
            }
        }
    }
    assert_eq!(rows, 8, "every † has a row");
    none(&faults);
}

/// The rule guards itself: every row names a crate that may exist, and the table has no way round.
#[test]
fn the_table_has_no_circle() {
    let table: BTreeMap<&str, &[&str]> = IMPORTS.iter().copied().collect();
    assert_eq!(table.len(), IMPORTS.len(), "a crate has two rows");
    let mut built = BTreeSet::new();
    while built.len() < table.len() {
        let ready: Vec<&str> = table
            .iter()
            .filter(|(name, imports)| {
                !built.contains(*name) && imports.iter().all(|import| built.contains(import))
            })
            .map(|(name, _)| *name)
            .collect();
        assert!(!ready.is_empty(), "a circle, or an import without a row");
        built.extend(ready);
    }
}
