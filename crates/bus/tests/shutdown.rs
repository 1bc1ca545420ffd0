//! A bus that is closed leaves no thread behind. A test of its own process, since it counts them.

#![cfg(all(target_os = "linux", any(feature = "with-nng", feature = "with-zmq")))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use stack_bus::{Bus as _, BusConfig, Message, WireBus};

/// The names of the threads of this process.
fn threads() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect();
    names.sort();
    names
}

/// nng starts its own once and keeps them for the process; ZeroMQ and we end ours.
fn left(before: &[String]) -> Vec<String> {
    let library = |name: &String| name.starts_with("nng:");
    threads()
        .into_iter()
        .filter(|name| !library(name))
        .filter(|name| !before.contains(name))
        .collect()
}

#[tokio::test]
async fn no_thread_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let before = threads();
    let mut of_nng = BTreeSet::new();
    for round in 0..3 {
        for kind in ["nng+tcp", "nng+ipc", "zmq+tcp", "zmq+ipc"] {
            let address = match kind.ends_with("tcp") {
                true => "127.0.0.1:0".to_owned(),
                false => folder
                    .path()
                    .join(format!("{kind}{round}"))
                    .display()
                    .to_string(),
            };
            let Ok(url) = format!("{kind}://{address}").parse() else {
                continue;
            };
            let here = WireBus::open(&BusConfig {
                url,
                ..BusConfig::default()
            })
            .unwrap();
            let there = WireBus::open(&BusConfig {
                subscribe: vec![here.bound().unwrap().clone()],
                // Somebody who is never there holds nothing up either.
                publish: vec![format!("{kind}://{}", absent(kind)).parse().unwrap()],
                ..BusConfig::default()
            })
            .unwrap();
            let mut heard = there.subscribe("room.".parse().unwrap()).await.unwrap();
            here.publish(Message::one("room.a".parse().unwrap(), b"1"))
                .unwrap();
            heard.recv().await.unwrap();
            assert!(
                !left(&before).is_empty(),
                "there are threads while it is open"
            );
            let began = Instant::now();
            here.close();
            there.close();
            assert!(
                began.elapsed() < Duration::from_secs(3),
                "{kind}: {:?}",
                began.elapsed()
            );
            assert_eq!(heard.recv().await, None);
            assert_eq!(left(&before), Vec::<String>::new(), "{kind}");
            of_nng.insert(
                threads()
                    .iter()
                    .filter(|name| name.starts_with("nng:"))
                    .count(),
            );
        }
    }
    // Those of the library do not grow with each bus.
    assert!(of_nng.len() <= 2, "{of_nng:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

fn absent(kind: &str) -> &'static str {
    match kind.ends_with("tcp") {
        true => "127.0.0.1:9",
        false => "/nonexistent/bus.sock",
    }
}
