//! What rooms keep of their past, and what is told of what they do not keep any more.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stack_storage::Retention;
use stack_testkit::{PATIENCE, Person, TestGateway, clock};
use tokio::time::timeout;

use crate::admin::on_file;

const ROOM: &str = "/api/v1/rooms/general";
const MESSAGES: &str = "/api/v1/rooms/general/messages";

/// The room, once it begins with another event than its first.
async fn shortened(person: &Person) -> Value {
    let look = async {
        loop {
            let room = person.get(ROOM).await.expect(200);
            if room["first"] != 1 {
                return room;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, look).await.unwrap()
}

#[tokio::test]
async fn a_room_that_keeps_less_lets_go_at_once_and_says_so() {
    let gateway = TestGateway::start().await;
    let anna = gateway.person("anna").await;
    anna.room("general", true).await;
    for number in 2..=31 {
        assert_eq!(anna.say("general", &format!("m{number}")).await, number);
    }
    let mut live = gateway.socket(&anna).await;
    live.ok("subscribe", json!({ "room": "general" })).await;
    let less = json!({ "settings": { "retention_messages": 10 } });
    let changed = anna.patch(ROOM, less).await.expect(200);
    assert_eq!(changed["settings"]["retention_messages"], 10);
    let room = shortened(&anna).await;
    assert_eq!((&room["first"], &room["head"]), (&json!(23), &json!(32)));

    // Who comes with an older cursor is told what is missing, and gets the rest.
    let mut late = gateway.socket(&anna).await;
    let begun = late
        .ok("subscribe", json!({ "room": "general", "after": 5 }))
        .await;
    assert_eq!(begun["first"], 23);
    let gap = late.next_of("gap").await;
    let expected = json!({ "room": "general", "from": 6, "to": 22, "reason": "retention" });
    assert_eq!(gap, expected);
    for seq in 23..=31 {
        let event = late.next_of("message").await;
        assert_eq!(
            (&event["seq"], &event["body"]),
            (&json!(seq), &json!(format!("m{seq}")))
        );
    }
    assert_eq!(late.next_of("room").await["seq"], 32);

    let page = anna
        .get(&format!("{MESSAGES}?after=3&limit=2"))
        .await
        .expect(200);
    assert_eq!((&page["first"], &page["head"]), (&json!(23), &json!(32)));
    assert_eq!(page["events"][0]["payload"]["seq"], 23);
    let before = anna.get(&format!("{MESSAGES}?before=23")).await.expect(200);
    assert_eq!(before["events"], json!([]));

    // What is gone can neither be changed nor answered.
    let gone = format!("{MESSAGES}/7");
    anna.patch(&gone, json!({ "body": "x" }))
        .await
        .problem(404, "not_found");
    anna.delete(&gone).await.problem(404, "not_found");
    let reaction = format!("{gone}/reactions/x");
    anna.put(&reaction, json!({}))
        .await
        .problem(404, "not_found");
    let reply = json!({ "body": "re", "reply_to": 7 });
    let refused = anna
        .post(MESSAGES, reply)
        .await
        .problem(422, "invalid_field");
    assert_eq!(refused["field"], "reply_to");

    // Who was there hears everything, with no gap: the room's change is the next event.
    assert_eq!(live.next_of("room").await["seq"], 32);
    let too_many = json!({ "settings": { "retention_messages": 1_000_000_001u64 } });
    let refused = anna
        .patch(ROOM, too_many)
        .await
        .problem(422, "invalid_field");
    assert_eq!(refused["field"], "settings.retention_messages");
}

#[tokio::test]
async fn what_grew_too_old_while_the_gateway_was_down_is_told_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let start = async |retention| {
        let clock = clock.clone();
        TestGateway::with(|config| {
            on_file(config, &folder);
            config.rate_enabled = false;
            config.testing.clock = Some(clock as Arc<_>);
            config.retention = retention;
        })
        .await
    };
    let days = |days: u64| Duration::from_secs(days * 24 * 60 * 60);
    let gateway = start(Retention::default()).await;
    let mut anna = gateway.person("anna").await;
    let body = json!({ "id": "general", "title": "General", "settings": { "retention_days": 3 } });
    anna.post("/api/v1/rooms", body).await.expect(201);
    anna.room("kept", false).await;
    for body in ["old", "newer"] {
        for room in ["general", "kept"] {
            anna.say(room, body).await;
        }
        clock.advance(days(2));
        anna = anna.another_device("anna").await;
    }
    gateway.shutdown().await;

    clock.advance(days(2));
    let gateway = start(Retention::default()).await;
    let anna = anna.at(&gateway).another_device("anna").await;
    let room = anna.get(ROOM).await.expect(200);
    // The last of "general" is four days old, and the first event that is left is behind the last one.
    assert_eq!((&room["first"], &room["head"]), (&json!(4), &json!(3)));
    assert_eq!(anna.get(MESSAGES).await.expect(200)["events"], json!([]));
    let mut socket = gateway.socket(&anna).await;
    socket
        .ok("subscribe", json!({ "room": "general", "after": 1 }))
        .await;
    let gap = socket.next_of("gap").await;
    assert_eq!((&gap["from"], &gap["to"]), (&json!(2), &json!(3)));
    assert_eq!(anna.say("general", "again").await, 4);
    assert_eq!(socket.next_of("message").await["body"], "again");
    let kept = anna.get("/api/v1/rooms/kept").await.expect(200);
    assert_eq!((&kept["first"], &kept["head"]), (&json!(1), &json!(3)));
    gateway.shutdown().await;

    // The server's bound holds for rooms that keep everything.
    let bound = Retention {
        days: 1,
        messages: 0,
    };
    let gateway = start(bound).await;
    let anna = anna.at(&gateway).another_device("anna").await;
    let kept = anna.get("/api/v1/rooms/kept").await.expect(200);
    assert_eq!((&kept["first"], &kept["head"]), (&json!(4), &json!(3)));
}
