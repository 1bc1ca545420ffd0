//! Erasing what somebody has said: by the operator, by admins, and by people for themselves.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stack_testkit::{Client, PATIENCE, Person, Socket, clock};
use tokio::time::timeout;

use crate::admin::with_admin_and;
use crate::process::{output, program, signal, started};

const MESSAGES: &str = "/api/v1/rooms/general/messages";

async fn told(folder: &tempfile::TempDir, arguments: &[&str]) -> String {
    let mut command = program(arguments);
    command.args(["--log", "warn", "--data-dir"]);
    command.arg(folder.path().join("data"));
    let output = output(&mut command).await;
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

async fn lines(folder: &tempfile::TempDir, arguments: &[&str]) -> Vec<Value> {
    let told = told(folder, &[arguments, &["--json"]].concat()).await;
    let parse = |line| serde_json::from_str(line).unwrap();
    told.lines().map(parse).collect()
}

/// All of a room, whose numbers have no hole.
async fn log(person: &Person, room: &str) -> Vec<Value> {
    let path = format!("/api/v1/rooms/{room}/messages?after=0&limit=500");
    let page = person.get(&path).await.expect(200);
    let events = page["events"].as_array().unwrap().clone();
    for (seq, event) in (1..).zip(&events) {
        assert_eq!(event["payload"]["seq"], seq);
    }
    events
}

/// How often a text stands in a file.
fn count(file: &Path, text: &str) -> usize {
    let bytes = std::fs::read(file).unwrap();
    let windows = bytes.windows(text.len());
    windows.filter(|window| *window == text.as_bytes()).count()
}

/// Says something of every kind in a room of both, each with a word of its own, and gives the numbers of Anna's events.
async fn talk(anna: &Person, ben: &Person, room: &str) -> Vec<u64> {
    let messages = format!("/api/v1/rooms/{room}/messages");
    let place = |answer: Value| answer["seq"].as_u64().unwrap();
    let mut annas = Vec::new();
    let data = json!({ "body": format!("anna-body-{room}"), "data": { "x": "anna-data" }, "key": "anna-key" });
    let first = place(anna.post(&messages, data).await.expect(201));
    let of_ben = ben.say(room, &format!("ben-body-{room}")).await;
    let reply = json!({ "body": "anna-reply", "reply_to": of_ben });
    let second = place(anna.post(&messages, reply).await.expect(201));
    let target = format!("{messages}/{first}");
    let edited = anna.patch(&target, json!({ "body": "anna-edit" })).await;
    annas.extend([first, second, place(edited.expect(200))]);
    let reaction = format!("{messages}/{of_ben}/reactions/anna-reaction");
    annas.push(place(anna.put(&reaction, json!({})).await.expect(200)));
    let slip = anna.say(room, "anna-slip").await;
    let taken_back = anna.call("DELETE", &format!("{messages}/{slip}"));
    let taken_back = taken_back
        .json(&json!({ "reason": "anna-reason" }))
        .send()
        .await;
    annas.push(place(taken_back.expect(200)));
    annas
}

/// The room as it is when Anna's events are erased: what was there before, and the one event that tells of it.
fn check_erased(before: &[Value], after: &[Value], annas: &[u64], anna: &str) {
    assert_eq!(after.len(), before.len() + 1);
    for (old, new) in before.iter().zip(after) {
        let seq = old["payload"]["seq"].as_u64().unwrap();
        if !annas.contains(&seq) {
            assert_eq!(old, new);
            continue;
        }
        assert_eq!(old["type"], new["type"]);
        let payload = &new["payload"];
        for field in ["room", "seq", "ts", "sender", "target_seq"] {
            assert_eq!(payload[field], old["payload"][field]);
        }
        for field in ["body", "data", "key", "reply_to", "emoji", "reason"] {
            assert_eq!(payload.get(field), None, "{new}");
        }
        if new["type"] != "redacted" {
            assert_eq!(payload["redacted"], true, "{new}");
        }
    }
    let told = after.last().unwrap();
    assert_eq!(told["type"], "redacted");
    assert_eq!(told["payload"]["sender"], anna);
    assert_eq!(told["payload"]["targets"], json!(annas));
    assert_eq!(told["payload"]["target_seq"], annas[0]);
}

#[tokio::test]
async fn the_operator_erases_what_somebody_has_said_from_rooms_and_file() {
    let folder = tempfile::tempdir().unwrap();
    let (mut gateway, url) = started(&folder).await;
    let anna = Person::register(Client::program(url.clone()), "anna").await;
    let ben = Person::register(Client::program(url.clone()), "ben").await;
    let mut annas = Vec::new();
    for room in ["general", "other"] {
        ben.room(room, true).await;
        let join = format!("/api/v1/rooms/{room}/members/{}", anna.id);
        anna.put(&join, json!({ "role": "member" }))
            .await
            .expect(200);
        annas.push(talk(&anna, &ben, room).await);
    }
    let before = (log(&ben, "general").await, log(&ben, "other").await);
    let address = url.strip_prefix("http://").unwrap().parse().unwrap();
    let authorization = format!("Bearer {}", ben.token);
    let mut live = Socket::open(address, "/ws", &[("authorization", authorization.as_str())]).await;
    live.ok("subscribe", json!({ "room": "general" })).await;

    // In one room first, beside the gateway; whoever is there hears of it.
    let done = lines(&folder, &["users", "erase", "anna", "--room", "general"]).await;
    assert_eq!(
        (&done[0]["rooms"], &done[0]["events"]),
        (&json!(1), &json!(5))
    );
    assert_eq!(live.next_of("redacted").await["targets"], json!(annas[0]));
    let general = log(&ben, "general").await;
    check_erased(&before.0, &general, &annas[0], &anna.id);
    assert_eq!(log(&ben, "other").await, before.1);
    // What was sent stays sent: it is not said a second time.
    let again = json!({ "body": "anna-body-general", "key": "anna-key" });
    let again = anna.post(MESSAGES, again).await.expect(201);
    assert_eq!(again["seq"], annas[0][0]);

    // The rest while the gateway is down.
    signal(&gateway, "TERM");
    assert!(
        timeout(PATIENCE, gateway.wait())
            .await
            .unwrap()
            .unwrap()
            .success()
    );
    let done = lines(&folder, &["users", "erase", &anna.id]).await;
    assert_eq!(
        (&done[0]["rooms"], &done[0]["events"]),
        (&json!(1), &json!(5))
    );
    let copy = folder.path().join("copy.redb");
    told(&folder, &["snapshot", copy.to_str().unwrap()]).await;
    for word in [
        "body-general",
        "body-other",
        "data",
        "reply",
        "edit",
        "reaction",
        "slip",
        "reason",
    ] {
        assert_eq!(count(&copy, &format!("anna-{word}")), 0, "{word}");
    }
    assert_eq!(count(&copy, "ben-body-general"), 1);

    let entries = lines(&folder, &["audit"]).await;
    let record = |action: &str| -> Vec<&Value> {
        let of = entries.iter().filter(|entry| entry["action"] == action);
        of.map(|entry| &entry["target"]).collect()
    };
    let (in_general, in_other) = (
        format!("{} general", anna.id),
        format!("{} other 5", anna.id),
    );
    assert_eq!(
        record("erasure_requested"),
        [&json!(anna.id), &json!(in_general)]
    );
    assert_eq!(
        record("messages_erased"),
        [&json!(in_other), &json!(format!("{in_general} 5"))]
    );

    let (_gateway, url) = started(&folder).await;
    let cara = Person::register(Client::program(url), "cara").await;
    let mut seen = Vec::new();
    for room in ["general", "other"] {
        let join = format!("/api/v1/rooms/{room}/members/{}", cara.id);
        cara.put(&join, json!({ "role": "member" }))
            .await
            .expect(200);
        let mut log = log(&cara, room).await;
        // Her own coming.
        log.pop();
        seen.push(log);
    }
    check_erased(&before.1, &seen[1], &annas[1], &anna.id);
    assert_eq!(seen[0], general);
    let nobody = program(&["users", "erase", "nobody", "--data-dir"])
        .arg(folder.path().join("data"))
        .output();
    let nobody = timeout(PATIENCE, nobody).await.unwrap().unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("there is no such account"));
}

/// The newest erasure of a list, once it is done.
async fn finished(person: &Person, path: &str) -> Value {
    let look = async {
        loop {
            let list = person.get(path).await.expect(200);
            let newest = list["erasures"][0].clone();
            if !newest["finished_at"].is_null() {
                return newest;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, look).await.unwrap()
}

#[tokio::test]
async fn admins_erase_and_people_erase_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let time = clock();
    let (gateway, root) = with_admin_and(&folder, |config| {
        config.rate_enabled = false;
        config.auth.access_token_ttl = Duration::from_secs(60 * 60);
        config.testing.clock = Some(time.clone() as Arc<_>);
    })
    .await;
    let anna = gateway.person("anna").await;
    let ben = gateway.person("ben").await;
    ben.room("general", true).await;
    let join = format!("/api/v1/rooms/general/members/{}", anna.id);
    anna.put(&join, json!({ "role": "member" }))
        .await
        .expect(200);
    let annas = talk(&anna, &ben, "general").await;
    let before = log(&ben, "general").await;

    let path = format!("/api/v1/admin/users/{}/erasure", anna.id);
    ben.post(&path, json!({})).await.problem(403, "forbidden");
    ben.get("/api/v1/admin/erasures")
        .await
        .problem(403, "forbidden");
    let unknown = "/api/v1/admin/users/nobody/erasure";
    root.post(unknown, json!({}))
        .await
        .problem(404, "not_found");
    let nowhere = json!({ "room": "nowhere" });
    root.post(&path, nowhere).await.problem(404, "not_found");
    let asked = root.post(&path, json!({})).await.expect(202);
    assert_eq!(
        (&asked["user_id"], &asked["by"]),
        (&json!(anna.id), &json!(root.id))
    );
    let done = finished(&root, "/api/v1/admin/erasures").await;
    assert_eq!((&done["id"], &done["events"]), (&asked["id"], &json!(5)));
    check_erased(&before, &log(&ben, "general").await, &annas, &anna.id);
    let audit = "/api/v1/admin/audit?action=messages_erased";
    let entry = &root.get(audit).await.expect(200)["entries"][0];
    assert_eq!(entry["actor"], json!(root.id));
    assert_eq!(entry["target"], json!(format!("{} general 5", anna.id)));

    // Ben takes his own back; what Anna has reacted to was his.
    let before = log(&ben, "general").await;
    let asked = ben.post("/api/v1/me/erasure", json!({})).await.expect(202);
    assert_eq!(asked["by"], json!(ben.id));
    let done = finished(&ben, "/api/v1/me/erasures").await;
    assert_eq!((&done["id"], &done["events"]), (&asked["id"], &json!(1)));
    let list = anna.get("/api/v1/me/erasures").await.expect(200);
    assert_eq!(list["erasures"][0]["user_id"], json!(anna.id));
    assert_eq!(list["erasures"].as_array().unwrap().len(), 1);
    let after = log(&ben, "general").await;
    let bodies = |log: &[Value]| {
        log.iter()
            .filter(|event| event["payload"]["body"].is_string())
            .count()
    };
    assert_eq!((bodies(&before), bodies(&after)), (1, 0));

    // Not twice within the hour, and never by a sign-in of long ago.
    let again = ben.post("/api/v1/me/erasure", json!({})).await;
    let refused = again.problem(429, "rate_limited");
    assert_eq!(refused["retry_after_ms"], 60 * 60 * 1000);
    time.advance(Duration::from_secs(10 * 60 + 1));
    for person in [&anna, &ben] {
        let stale = person.post("/api/v1/me/erasure", json!({})).await;
        let refused = stale.problem(403, "forbidden");
        assert_eq!(refused["field"], "reauthenticate");
    }
}
