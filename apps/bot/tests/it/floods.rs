//! A flood is answered at a bounded rate, and keeps nobody else from an answer for long.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::support::{ROOM, World};

#[tokio::test]
async fn a_flood_gets_few_answers_and_others_get_theirs() {
    let world = World::new().await;
    let limits =
        "[limits]\nuser_burst = 3\nuser_every = '60s'\nroom_burst = 20\nroom_every = '1s'\n";
    world.configure("", limits);
    let bot = world.start().await;
    let mut socket = world.gateway.socket(&world.admin).await;
    for _ in 0..200 {
        let message = json!({ "room": ROOM, "body": "!help" });
        socket.begin("send", message).await;
    }
    for _ in 0..200 {
        socket.next_of("ok").await;
    }
    let ben = world.gateway.person("ben").await;
    world.admin.bring(ROOM, &ben.id).await;
    let asked = ben.say(ROOM, "!help").await;
    assert!(world.answer(asked).await.contains("!remind"));
    let said = world.said().await;
    let told = said
        .iter()
        .filter(|(_, body)| body.starts_with("Too many commands"));
    assert_eq!(told.count(), 1, "{said:?}");
    // Three for who floods, one note, and one for ben.
    assert_eq!(said.len(), 5, "{said:?}");
    bot.kill().await;
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn many_users_together_are_answered_at_the_rooms_rate() {
    let world = World::new().await;
    let limits =
        "[limits]\nuser_burst = 100\nuser_every = '1s'\nroom_burst = 4\nroom_every = '1s'\n";
    world.configure("", limits);
    let bot = world.start().await;
    let mut socket = world.gateway.socket(&world.admin).await;
    for _ in 0..3 {
        for _ in 0..50 {
            let message = json!({ "room": ROOM, "body": "!help" });
            socket.begin("send", message).await;
        }
        for _ in 0..50 {
            socket.next_of("ok").await;
        }
        sleep(Duration::from_secs(1)).await;
    }
    bot.kill().await;
    let log = world.admin.log(ROOM).await;
    let times: Vec<u64> = log
        .iter()
        .filter(|event| event["payload"]["sender"] == world.bot.id.as_str())
        .map(|event| event["payload"]["ts"].as_u64().unwrap())
        .filter(|ts| *ts > 0)
        .collect();
    assert!(times.len() >= 5, "{times:?}");
    // In no second more than the burst and what has come since.
    for (index, from) in times.iter().enumerate() {
        let within = times[index..].iter().filter(|ts| **ts < from + 1000);
        assert!(within.count() <= 4 + 2, "{times:?}");
    }
    // Those of the rate, and one note that there are too many.
    let seconds = (times[times.len() - 1] - times[0]).div_ceil(1000);
    assert!(times.len() as u64 <= 4 + seconds + 1, "{times:?}");
    world.gateway.shutdown().await;
}
