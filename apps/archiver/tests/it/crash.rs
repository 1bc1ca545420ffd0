//! Killed again and again while people write, it has every event once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::{World, cursor, finished};

const ROOMS: [&str; 3] = ["general", "news", "random"];
const KILLS: usize = 30;
/// So many messages are on their way at once, of each room.
const BURST: usize = 20;

/// Numbers that a failure can be repeated with, if the machine is in the mood.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_it_keeps_every_event_once() {
    let world = World::new().await;
    for room in ROOMS {
        world.room(room).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for (index, room) in ROOMS.into_iter().enumerate() {
        let mut socket = world.gateway.socket(&world.admin).await;
        let stop = stop.clone();
        writers.spawn(async move {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..BURST {
                    count += 1;
                    let body = format!("{room} {count} {}", "ä\"\n".repeat(count % 40));
                    let message = json!({ "room": room, "body": body, "data": { "n": count } });
                    socket.begin("send", message).await;
                }
                for _ in 0..BURST {
                    socket.next_of("ok").await;
                }
                // The rooms are written to at different rates.
                sleep(Duration::from_millis(index as u64 * 3)).await;
            }
        });
    }

    let dir = world.path("archive");
    let arguments = ["--rotate-bytes", "3000", "--gather", "0s"];
    let seed = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    println!("seed {seed}");
    let mut random = Random(seed as u64);
    let mut seen = BTreeMap::new();
    let kept = |dir: &std::path::Path| ROOMS.map(|room| cursor(dir, room)).iter().sum::<u64>();
    for kill in 0..KILLS {
        let before = kept(&dir);
        let archiver = world.archiver(&dir, &arguments);
        // Every other time at once or a little later, and otherwise when it is in the midst of it.
        if kill % 2 == 1 {
            let grown = async {
                while kept(&dir) == before {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(stack_testkit::PATIENCE, grown).await.unwrap();
        }
        sleep(Duration::from_micros(random.below(60_000))).await;
        archiver.kill().await;
        for room in ROOMS {
            let now = finished(&dir, room);
            for (path, bytes) in &now {
                let before: &Vec<u8> = seen.entry(path.clone()).or_insert_with(|| bytes.clone());
                assert_eq!(before, bytes, "{path:?} was touched again");
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    let archiver = world.archiver(&dir, &arguments);
    for room in ROOMS {
        world.is_kept(&dir, room).await;
    }
    let (code, log) = archiver.terminate().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(seen.len() > 10, "{} files were finished", seen.len());
    for (path, bytes) in seen {
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{path:?}");
    }
    println!("{} events, killed {KILLS} times", kept(&dir));
    world.gateway.shutdown().await;
}
