//! Messages over HTTP: saying, changing, taking back, reacting, reading.

use serde_json::{Value, json};
use stack_testkit::{Person, TestGateway};

async fn page(person: &Person, query: &str) -> Value {
    person
        .get(&format!("/api/v1/rooms/general/messages{query}"))
        .await
        .expect(200)
}

fn seqs(page: &Value) -> Vec<u64> {
    let events = page["events"].as_array().unwrap();
    events
        .iter()
        .map(|event| event["payload"]["seq"].as_u64().unwrap())
        .collect()
}

async fn room() -> (TestGateway, Person) {
    let gateway = TestGateway::start().await;
    let alice = gateway.person("alice").await;
    alice.room("general", true).await;
    (gateway, alice)
}

#[tokio::test]
async fn what_is_said_is_in_the_log_as_it_was_said() {
    let (_gateway, alice) = room().await;
    let call = alice
        .call("POST", "/api/v1/rooms/general/messages")
        .header("content-type", "application/json");
    let sent = call
        .body(r#"{"body":"hällo","data":{"b": 1.0,"a":[ ]},"reply_to":1}"#)
        .send()
        .await;
    let sent = sent.expect(201);
    assert_eq!(
        (&sent["room"], &sent["seq"]),
        (&json!("general"), &json!(2))
    );
    let answer = alice.get("/api/v1/rooms/general/messages?after=1").await;
    assert!(
        answer.text.contains(r#""data":{"b": 1.0,"a":[ ]}"#),
        "{}",
        answer.text
    );
    let page = answer.expect(200);
    assert_eq!((&page["head"], &page["first"]), (&json!(2), &json!(1)));
    let event = &page["events"][0];
    assert_eq!(event["type"], "message");
    assert_eq!(event["payload"]["body"], "hällo");
    assert_eq!(event["payload"]["sender"], json!(alice.id));
    assert_eq!(event["payload"]["ts"], sent["ts"]);
}

#[tokio::test]
async fn a_key_makes_a_message_once() {
    let (_gateway, alice) = room().await;
    let say = |body: &str| {
        alice.post(
            "/api/v1/rooms/general/messages",
            json!({ "body": body, "key": "k1" }),
        )
    };
    let first = say("one").await.expect(201);
    assert_eq!(say("two").await.expect(201), first);
    assert_eq!(page(&alice, "").await["head"], 2);
}

#[tokio::test]
async fn pages_go_by_exclusive_cursors() {
    let (_gateway, alice) = room().await;
    for number in 2..=60 {
        assert_eq!(alice.say("general", "x").await, number);
    }
    assert_eq!(
        seqs(&page(&alice, "").await),
        (11..=60).collect::<Vec<_>>(),
        "the newest fifty"
    );
    assert_eq!(seqs(&page(&alice, "?after=58").await), [59, 60]);
    assert_eq!(seqs(&page(&alice, "?before=3").await), [1, 2]);
    assert_eq!(seqs(&page(&alice, "?after=0&limit=2").await), [1, 2]);
    assert_eq!(seqs(&page(&alice, "?after_ts=0&limit=3").await), [1, 2, 3]);
    assert!(seqs(&page(&alice, "?after=60").await).is_empty());
    for (query, status) in [
        ("limit=0", 422),
        ("limit=501", 422),
        ("after=61", 422),
        ("after=1&before=3", 422),
        ("limit=500", 200),
    ] {
        let answer = alice
            .get(&format!("/api/v1/rooms/general/messages?{query}"))
            .await;
        assert_eq!(answer.status, status, "{query}: {answer:?}");
    }
}

#[tokio::test]
async fn a_message_is_edited_reacted_to_and_taken_back() {
    let (gateway, alice) = room().await;
    let seq = alice.say("general", "helo").await;
    let at = format!("/api/v1/rooms/general/messages/{seq}");
    let edited = alice
        .patch(&at, json!({ "body": "hello" }))
        .await
        .expect(200);
    assert_eq!(
        (&edited["room"], &edited["seq"]),
        (&json!("general"), &json!(seq + 1))
    );

    let bob = gateway.person("bob").await;
    bob.put(
        &format!("/api/v1/rooms/general/members/{}", bob.id),
        json!({ "role": "member" }),
    )
    .await
    .expect(200);
    bob.patch(&at, json!({ "body": "mine" }))
        .await
        .problem(403, "forbidden");
    let thumb = format!("{at}/reactions/%F0%9F%91%8D");
    bob.call("PUT", &thumb).send().await.expect(200);
    bob.delete(&thumb).await.expect(200);

    let redacted = alice
        .call("DELETE", &at)
        .json(&json!({ "reason": "typo" }))
        .send()
        .await
        .expect(200);
    let events = page(&alice, "?after=0").await["events"].clone();
    let of = |seq: u64| &events[usize::try_from(seq).unwrap() - 1];
    assert_eq!(of(seq)["payload"]["redacted"], true);
    assert!(of(seq)["payload"].get("body").is_none());
    assert_eq!(
        of(redacted["seq"].as_u64().unwrap())["payload"]["reason"],
        "typo"
    );
    let reactions: Vec<_> = events
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["type"] == "reacted")
        .collect();
    assert_eq!(reactions.len(), 2);
    assert_eq!(reactions[0]["payload"]["emoji"], "👍");
    assert_eq!(reactions[1]["payload"]["remove"], true);
    alice
        .patch(&at, json!({ "body": "again" }))
        .await
        .problem(410, "gone");
}

#[tokio::test]
async fn what_is_wrong_with_a_message_is_told() {
    let (_gateway, alice) = room().await;
    let say = |body: Value| alice.post("/api/v1/rooms/general/messages", body);
    let field = |problem: Value| problem["field"].clone();
    assert_eq!(
        field(say(json!({})).await.problem(422, "invalid_field")),
        "body"
    );
    assert_eq!(
        field(
            say(json!({ "body": "x", "key": "" }))
                .await
                .problem(422, "invalid_field")
        ),
        "key"
    );
    assert_eq!(
        field(
            say(json!({ "body": "x", "reply_to": 99 }))
                .await
                .problem(422, "invalid_field")
        ),
        "reply_to"
    );
    say(json!({ "body": "x".repeat(16 * 1024) }))
        .await
        .expect(201);
    say(json!({ "body": "x".repeat(16 * 1024 + 1) }))
        .await
        .problem(413, "payload_too_large");
    say(json!({ "body": "x", "key": "k".repeat(65) }))
        .await
        .problem(413, "payload_too_large");
    let at = "/api/v1/rooms/general/messages/x";
    assert_eq!(
        field(
            alice
                .patch(at, json!({ "body": "x" }))
                .await
                .problem(422, "invalid_field")
        ),
        "seq"
    );
    alice
        .patch("/api/v1/rooms/general/messages/99", json!({ "body": "x" }))
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn reading_moves_the_cursor() {
    let (_gateway, alice) = room().await;
    let seq = alice.say("general", "x").await;
    let read = |seq: u64| alice.put("/api/v1/rooms/general/read", json!({ "seq": seq }));
    assert_eq!(read(seq).await.status, 204);
    assert_eq!(
        alice.get("/api/v1/rooms/general").await.expect(200)["read_seq"],
        json!(seq)
    );
    assert_eq!(read(99).await.problem(422, "invalid_field")["field"], "seq");
}
