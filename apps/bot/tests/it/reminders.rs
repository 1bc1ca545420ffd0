//! Reminders come, once, whatever happens in between.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::support::{ROOM, WIDE, World};

#[tokio::test]
async fn a_reminder_comes_when_it_is_due() {
    let world = World::new().await;
    world.configure("", WIDE);
    let bot = world.start().await;
    let seq = world.say("!remind 2s Tea is ready").await;
    let answers = world.answers(seq, 2).await;
    assert_eq!(
        answers,
        ["I will remind you in 2s.", "Reminder: Tea is ready"]
    );
    let log = world.admin.log(ROOM).await;
    let ts = |body: &str| {
        let event = log.iter().find(|event| event["payload"]["body"] == body);
        event.unwrap()["payload"]["ts"].as_u64().unwrap()
    };
    let asked = ts("!remind 2s Tea is ready");
    assert!((2000..12_000).contains(&(ts("Reminder: Tea is ready") - asked)));
    for (bad, answer) in [
        ("!remind", "Say when, and of what: !remind <duration>"),
        ("!remind tea 5m", "Say when as a duration"),
        ("!remind 0s tea", "A reminder lies 1s to 365d ahead."),
        ("!remind 53w tea", "A reminder lies 1s to 365d ahead."),
    ] {
        let said = world.ask(bad).await;
        assert!(said.starts_with(answer), "{bad}: {said}");
    }
    bot.kill().await;
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn reminders_survive_and_come_once() {
    let world = World::new().await;
    world.configure("", WIDE);
    let bot = world.start().await;
    let mut asked = Vec::new();
    for index in 0..10 {
        let seq = world.say(&format!("!remind 2s number {index}")).await;
        world.answer(seq).await;
        asked.push(seq);
    }
    bot.kill().await;
    // Killed again and again while they are due, after some of them are told.
    for round in 1..=8 {
        let bot = world.start().await;
        sleep(Duration::from_millis(round * 40)).await;
        bot.kill().await;
    }
    let bot = world.start().await;
    for (index, seq) in asked.iter().enumerate() {
        let answers = world.answers(*seq, 2).await;
        assert_eq!(answers[1], format!("Reminder: number {index}"));
    }
    // After another start nothing is told again.
    bot.kill().await;
    let bot = world.start().await;
    world.ask("!help").await;
    let said = world.said().await;
    assert_eq!(said.len(), 2 * asked.len() + 1, "{said:?}");
    bot.kill().await;
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn a_reminder_is_taken_back_with_its_message_and_there_are_not_too_many() {
    let world = World::new().await;
    let limits = WIDE.replace("[limits]", "[limits]\nreminders_per_user = 2");
    world.configure("", &limits);
    let bot = world.start().await;
    let first = world.say("!remind 3s first").await;
    world.answer(first).await;
    let second = world.say("!remind 3s second").await;
    world.answer(second).await;
    let answer = world.ask("!remind 3s third").await;
    assert_eq!(answer, "You have too many reminders already.");
    let mut socket = world.gateway.socket(&world.admin).await;
    let redact = json!({ "room": ROOM, "seq": first });
    socket.ok("redact", redact).await;
    assert_eq!(world.answers(second, 2).await[1], "Reminder: second");
    let fourth = world.say("!remind 1s fourth").await;
    world.answers(fourth, 2).await;
    let said = world.said().await;
    assert!(
        said.iter().all(|(_, body)| body != "Reminder: first"),
        "{said:?}"
    );
    bot.kill().await;
    world.gateway.shutdown().await;
}
