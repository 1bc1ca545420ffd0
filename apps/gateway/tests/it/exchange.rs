//! Rooms as JSON lines, out of one gateway and into another, and in from Slack.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use stack_testkit::{PASSWORD, PATIENCE};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::command::Home;
use crate::process::signal;

/// Begins a request of somebody.
fn call(home: &Home, method: reqwest::Method, token: &str, path: &str) -> reqwest::RequestBuilder {
    let (_, origin) = home.gateway.as_ref().unwrap();
    let url = format!("{origin}/api/v1{path}");
    reqwest::Client::new()
        .request(method, url)
        .bearer_auth(token)
}

async fn done(request: reqwest::RequestBuilder) -> Value {
    let answer = request.send().await.unwrap();
    let (status, body) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status}: {body}");
    serde_json::from_str(&body).unwrap_or_default()
}

/// Says something in a room over a socket, for what HTTP has not.
async fn over_socket(home: &Home, token: &str, requests: &[(&str, Value)]) {
    let (_, origin) = home.gateway.as_ref().unwrap();
    let addr = origin.strip_prefix("http://").unwrap().parse().unwrap();
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let mut socket = stack_testkit::Socket::open(addr, "/ws", &headers).await;
    for (kind, payload) in requests {
        socket.ok(kind, payload.clone()).await;
    }
}

/// A gateway with two rooms in which everything has happened that can.
async fn eventful() -> (Home, String) {
    let home = Home::started().await;
    let (ann, _) = home.register("ann").await;
    let (bob, bob_id) = home.register("bob").await;
    let (_, eve_id) = home.register("eve").await;
    home.room(&ann, "general", "General \u{1f600}", true).await;
    home.room(&ann, "board", "The board", false).await;
    let put =
        |path: String, body: Value| call(&home, reqwest::Method::PUT, &ann, &path).json(&body);
    for (room, user, role) in [
        ("general", &bob_id, "moderator"),
        ("general", &eve_id, "member"),
        ("board", &bob_id, "guest"),
    ] {
        done(put(
            format!("/rooms/{room}/members/{user}"),
            json!({ "role": role }),
        ))
        .await;
    }
    let odd = "line\nbreak \"quoted\" \\ \u{7} \u{1f9d1}\u{200d}\u{1f680} </script>";
    let data = json!({ "deep": [1, 2.5, { "x": null }], "text": "\u{202e}" });
    let messages = "/rooms/general/messages";
    let said = json!({ "body": odd, "data": data, "key": "k-1" });
    home.post(messages, Some(&ann), said).await;
    let replied = json!({ "body": "yes", "reply_to": 4 });
    home.post(messages, Some(&bob), replied).await;
    let mine = |extra: Value| {
        let mut payload = json!({ "room": "general" });
        payload
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        payload
    };
    let requests = [
        ("edit", mine(json!({ "seq": 4, "body": "edited" }))),
        ("react", mine(json!({ "seq": 5, "emoji": "\u{1f44d}" }))),
        (
            "react",
            mine(json!({ "seq": 5, "emoji": "\u{1f44d}", "remove": true })),
        ),
        ("send", mine(json!({ "body": "a secret", "key": "k-2" }))),
        ("edit", mine(json!({ "seq": 9, "body": "a secret still" }))),
        ("redact", mine(json!({ "seq": 9, "reason": "not for all" }))),
    ];
    over_socket(&home, &ann, &requests).await;
    let ban = json!({ "reason": "noise" });
    done(put(format!("/rooms/general/bans/{eve_id}"), ban)).await;
    let change = json!({ "title": "General, again", "settings": { "slow_mode_s": 1 } });
    done(call(&home, reqwest::Method::PATCH, &ann, "/rooms/general").json(&change)).await;
    (home, ann)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn events(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| line.starts_with("{\"type\":"))
        .collect()
}

fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines
        .iter()
        .filter(|line| line["line"] == json!(kind))
        .collect()
}

async fn room_ids(home: &Home) -> Vec<String> {
    let rooms = home.json(&["rooms", "list"]).await;
    rooms
        .iter()
        .map(|room| room["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn what_is_exported_and_imported_elsewhere_is_the_same_byte_for_byte() {
    let (mut home, ann) = eventful().await;
    let exported = home.run(&["export", "--all"]).await;
    assert_eq!(exported.stderr, b"", "bars are for terminals");
    let export = String::from_utf8(exported.stdout).unwrap();
    let all = lines(&export);
    assert_eq!(all[0]["format"], json!("stack-rooms"));
    let kinds: Vec<_> = events(&export)
        .iter()
        .map(|event| serde_json::from_str::<Value>(event).unwrap()["type"].clone())
        .collect();
    for kind in ["message", "edited", "redacted", "reacted", "room", "member"] {
        assert!(kinds.contains(&json!(kind)), "{kind}");
    }
    assert!(!export.contains("a secret"));
    assert!(!export.contains("password") && !export.contains('@'));
    assert_eq!(
        (of_kind(&all, "ban").len(), of_kind(&all, "member").len()),
        (1, 4)
    );
    let trailer = json!({ "line": "trailer", "rooms": 2, "users": 3, "events": kinds.len() });
    assert_eq!(all.last(), Some(&trailer));
    // The events are what readers get.
    let page = call(
        &home,
        reqwest::Method::GET,
        &ann,
        "/rooms/general/messages?after=0&limit=500",
    );
    let page = page.send().await.unwrap().text().await.unwrap();
    for event in events(&export) {
        let there = event.contains("\"room\":\"board\"") || page.contains(event);
        assert!(there, "{event}");
    }
    let file = home.folder.path().join("rooms.jsonl");
    home.told(&[
        "export",
        "board",
        "general",
        "--output",
        file.to_str().unwrap(),
    ])
    .await;
    home.stop().await;
    // On the file, without a gateway, the same.
    let offline = home.told(&["export", "--all"]).await;
    assert_eq!(lines(&offline)[1..], all[1..]);
    assert_eq!(
        std::fs::read_to_string(&file)
            .unwrap()
            .lines()
            .skip(1)
            .collect::<Vec<_>>(),
        export.lines().skip(1).collect::<Vec<_>>()
    );

    for running in [true, false] {
        let mut other = Home::started().await;
        if !running {
            other.stop().await;
        }
        let told = other.told(&["import", file.to_str().unwrap()]).await;
        assert!(told.contains("without an owner who can sign in"), "{told}");
        assert!(told.contains("2 rooms with "), "{told}");
        let back = other.told(&["export", "--all"]).await;
        assert_eq!(events(&back), events(&export), "{running}");
        let back = lines(&back);
        for kind in ["room", "ban", "room_end", "trailer"] {
            assert_eq!(of_kind(&back, kind), of_kind(&all, kind), "{kind}");
        }
        // Nobody who cannot sign in owns or moderates anything.
        let roles: Vec<_> = of_kind(&back, "member")
            .iter()
            .map(|member| member["role"].clone())
            .collect();
        assert_eq!(
            roles,
            ["member", "guest", "member", "member"].map(|role| json!(role))
        );
        let audit = other.json(&["audit", "--action", "room_imported"]).await;
        assert_eq!((audit.len(), &audit[0]["ip"]), (2, &json!("")));
        // Times that were do not come back for those that come: the room goes on where it was.
        if running {
            let (owner, _) = other.register("owner").await;
            let import = [
                "import",
                file.to_str().unwrap(),
                "--new-ids",
                "--owner",
                "owner",
            ];
            other.told(&import).await;
            let head = of_kind(&all, "room_end")[1]["events"].as_u64().unwrap();
            let said = json!({ "body": "on we go" });
            let said = other
                .post("/rooms/general-2/messages", Some(&owner), said)
                .await;
            assert_eq!(said["seq"], json!(head + 1));
            let last = events(&export).last().unwrap().to_string();
            let last: Value = serde_json::from_str(&last).unwrap();
            assert!(said["ts"].as_u64() >= last["payload"]["ts"].as_u64());
        }
    }
    let audit = home.json(&["audit", "--action", "room_exported"]).await;
    let targets: Vec<_> = audit
        .iter()
        .map(|entry| entry["target"].as_str().unwrap())
        .collect();
    assert_eq!(targets, ["general", "board"].repeat(3));
}

/// The room as others see it, once it begins where it should.
async fn begins_at(home: &Home, room: &str, first: u64) -> Value {
    let look = async {
        loop {
            let rooms = home.json(&["rooms", "list"]).await;
            let room = rooms.into_iter().find(|found| found["id"] == json!(room));
            let room = room.unwrap();
            if room["first"] == json!(first) {
                return room;
            }
        }
    };
    timeout(PATIENCE, look).await.unwrap()
}

#[tokio::test]
async fn a_room_that_has_forgotten_everything_goes_out_and_comes_in() {
    let home = Home::started().await;
    let (ann, _) = home.register("ann").await;
    let good = [
        r#"{"line":"header","format":"stack-rooms","version":1,"made_at":5}"#,
        r#"{"line":"user","id":"eve","username":"eve","display_name":"Eve"}"#,
        r#"{"line":"room","id":"den","title":"Den","settings":{"retention_days":1,"public":true},"created_at":5,"first":1}"#,
        r#"{"type":"room","payload":{"room":"den","seq":1,"ts":5,"sender":"eve","action":"created","title":"Den","settings":{}}}"#,
        r#"{"type":"message","payload":{"room":"den","seq":2,"ts":1700000000000,"sender":"eve","body":"hello"}}"#,
        r#"{"line":"room_end","id":"den","events":2}"#,
        r#"{"line":"trailer","rooms":1,"users":1,"events":2}"#,
    ];
    let file = home.folder.path().join("rooms.jsonl");
    let path = file.to_str().unwrap();
    std::fs::write(&file, good.join("\n")).unwrap();
    // What is too old for its room goes without waiting for the next look at all rooms.
    home.told(&["import", path, "--owner", "ann"]).await;
    assert_eq!(begins_at(&home, "den", 3).await["head"], json!(2));

    let export = home.told(&["export", "den"]).await;
    let all = lines(&export);
    assert_eq!(events(&export).len(), 0);
    let room = of_kind(&all, "room")[0];
    assert_eq!(
        (&room["first"], &room["last_ts"]),
        (&json!(3), &json!(1_700_000_000_000_u64))
    );
    std::fs::write(&file, &export).unwrap();
    home.told(&["import", path, "--as", "again", "--owner", "ann"])
        .await;
    let said = json!({ "body": "on we go" });
    let said = home.post("/rooms/again/messages", Some(&ann), said).await;
    assert_eq!(said["seq"], json!(3));
    // Its times go on where they were, also where that was ahead of this machine.
    let ahead = stack_types::Timestamp(said["ts"].as_u64().unwrap() + 3_600_000);
    let later = export.replace("1700000000000", &ahead.0.to_string());
    std::fs::write(&file, later).unwrap();
    home.told(&["import", path, "--as", "third", "--owner", "ann"])
        .await;
    let said = json!({ "body": "on we go" });
    let said = home.post("/rooms/third/messages", Some(&ann), said).await;
    assert_eq!((&said["seq"], &said["ts"]), (&json!(3), &json!(ahead.0)));
}

#[tokio::test]
async fn what_was_erased_goes_out_and_comes_in_without_what_was_said() {
    let (home, _) = eventful().await;
    home.told(&["users", "erase", "ann"]).await;
    let file = home.folder.path().join("rooms.jsonl");
    let path = file.to_str().unwrap();
    home.told(&["export", "--all", "--output", path]).await;
    let export = std::fs::read_to_string(&file).unwrap();
    let gone = |text: &str| {
        for said in [
            "quoted",
            "deep",
            "\"body\":\"edited",
            "not for all",
            "\u{1f44d}",
        ] {
            assert!(!text.contains(said), "{said}");
        }
    };
    gone(&export);
    let is_reaction = |event: &&&str| event.starts_with("{\"type\":\"reacted\"");
    assert_eq!(events(&export).iter().filter(is_reaction).count(), 2);
    let told = events(&export);
    assert!(told.iter().any(|event| event.contains("\"targets\":[4,")));

    let other = Home::started().await;
    other.told(&["import", path]).await;
    let back = other.told(&["export", "--all"]).await;
    gone(&back);
    assert_eq!(events(&back), events(&export));
}

#[tokio::test]
async fn a_room_that_is_there_is_never_replaced() {
    let (home, _) = eventful().await;
    let file = home.folder.path().join("rooms.jsonl");
    let path = file.to_str().unwrap();
    home.told(&["export", "general", "-o", path]).await;
    let before = home.told(&["export", "--all"]).await;

    let taken = home.refused(&["import", path], 1).await;
    assert!(taken.contains("there is a room general"), "{taken}");
    assert!(taken.contains("nothing has come in"), "{taken}");
    let there = home.refused(&["export", "general", "-o", path], 1).await;
    assert!(there.contains("it is there already"), "{there}");
    assert_eq!(
        events(&home.told(&["export", "--all"]).await),
        events(&before)
    );

    let told = home.json(&["import", path, "--as", "archive"]).await;
    assert_eq!(told[0]["rooms"][0]["id"], json!("archive"));
    // On their own server people are known, by id and name.
    assert_eq!(
        (&told[0]["matched"], &told[0]["placeholders"]),
        (&json!(3), &json!(0))
    );
    let told = home.json(&["import", path, "--new-ids"]).await;
    assert_eq!(told[0]["rooms"][0]["id"], json!("general-2"));
    assert_eq!(
        room_ids(&home).await,
        ["archive", "board", "general", "general-2"]
    );
    let copy = home.told(&["export", "archive"]).await;
    let renamed = copy.replace("\"room\":\"archive\"", "\"room\":\"general\"");
    let general = home.told(&["export", "general"]).await;
    assert_eq!(events(&renamed), events(&general));

    let both = home.folder.path().join("both.jsonl");
    let both = both.to_str().unwrap();
    home.told(&["export", "general", "board", "-o", both]).await;
    let several = home.refused(&["import", both, "--as", "one"], 1).await;
    assert!(several.contains("there are several rooms"), "{several}");
    let nobody = home
        .refused(&["import", path, "--as", "x", "--owner", "nobody"], 1)
        .await;
    assert!(nobody.contains("nobody who can sign in"), "{nobody}");
    let unknown = home.refused(&["export", "nowhere"], 1).await;
    assert!(unknown.contains("there is no room nowhere"), "{unknown}");
    assert!(!home.refused(&["export"], 2).await.is_empty());
    assert_eq!(room_ids(&home).await.len(), 4);
}

#[tokio::test]
async fn roles_and_accounts_are_never_got_by_an_import() {
    let home = Home::started().await;
    let (root, root_id) = home.register("root").await;
    home.told(&["users", "promote", "root"]).await;
    let file = home.folder.path().join("rooms.jsonl");
    let path = file.to_str().unwrap();
    let foreign = "9aaaaaaaaaaaaaaaaaaaaa";
    let write = |id: &str| {
        let user = |id: &str, name: &str| json!({ "line": "user", "id": id, "username": name, "display_name": "Root", "role": "admin", "password_hash": "x", "email": "r@example.com" });
        let made = json!({ "type": "room", "payload": { "room": "den", "seq": 1, "ts": 5, "sender": id, "action": "created", "title": "Den", "settings": {} } });
        let all = [
            json!({ "line": "header", "format": "stack-rooms", "version": 1, "made_at": 5 }),
            user(id, "root"),
            json!({ "line": "room", "id": "den", "title": "Den", "settings": {}, "created_at": 5, "first": 1 }),
            json!({ "line": "member", "user_id": id, "role": "owner", "joined_at": 5, "joined_seq": 0 }),
            made,
            json!({ "line": "room_end", "id": "den", "events": 1 }),
            json!({ "line": "trailer", "rooms": 1, "users": 1, "events": 1 }),
        ];
        let lines: Vec<_> = all.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, lines.concat()).unwrap();
    };
    let role = async |room: &str| {
        let rooms = done(call(&home, reqwest::Method::GET, &root, "/rooms")).await;
        let rooms = rooms["rooms"].as_array().unwrap().clone();
        rooms
            .into_iter()
            .find(|found| found["id"] == json!(room))
            .map(|found| found["role"].clone())
    };

    // Another's root is not ours, whatever the lines say of them.
    write(foreign);
    home.told(&["import", path]).await;
    assert_eq!(role("den").await, None);
    let users = home.json(&["users", "list"]).await;
    let placeholder = users
        .iter()
        .find(|user| user["id"] == json!(foreign))
        .unwrap();
    let expected = json!({
        "id": foreign, "username": "root.imported", "display_name": "Root", "role": "member",
        "created_at": placeholder["created_at"], "disabled": true, "bot": false,
    });
    assert_eq!(*placeholder, expected);
    for login in ["root.imported", "r@example.com"] {
        let (_, origin) = home.gateway.as_ref().unwrap();
        let login = json!({ "login": login, "password": PASSWORD });
        let request = reqwest::Client::new().post(format!("{origin}/api/v1/auth/login"));
        assert_eq!(request.json(&login).send().await.unwrap().status(), 401);
    }
    let promoted = home
        .refused(&["users", "promote", "root.imported"], 1)
        .await;
    assert!(!promoted.is_empty());
    // Nor does a backend speak as them.
    let key = json!({ "name": "backend", "scopes": ["chat_token"] });
    let key = home.post("/api-keys", Some(&root), key).await;
    let asked = json!({ "user_id": foreign, "ttl_s": 60 });
    let request = call(
        &home,
        reqwest::Method::POST,
        key["key"].as_str().unwrap(),
        "/chat/token",
    );
    let refused = request.json(&asked).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    // The same again is the same placeholder.
    let again = home.json(&["import", path, "--as", "den-again"]).await;
    assert_eq!(again[0]["placeholders"], json!(0));

    // By name they are the same where the operator says so, and no more than a member where that is all he says.
    write("9bbbbbbbbbbbbbbbbbbbbb");
    home.told(&["import", path, "--as", "by-name", "--match-names"])
        .await;
    assert_eq!(role("by-name").await, Some(json!("member")));
    write(&root_id);
    home.told(&["import", path, "--as", "by-id"]).await;
    assert_eq!(role("by-id").await, Some(json!("member")));
    home.told(&["import", path, "--as", "by-role", "--with-roles"])
        .await;
    assert_eq!(role("by-role").await, Some(json!("owner")));
    let made = home.json(&["audit", "--action", "placeholder_made"]).await;
    assert_eq!((made.len(), &made[0]["target"]), (1, &json!(foreign)));
}

#[tokio::test]
async fn a_gateway_that_dies_in_the_middle_of_an_import_has_nothing_of_it() {
    let mut home = Home::started().await;
    let beginning = [
        json!({ "line": "header", "format": "stack-rooms", "version": 1, "made_at": 5 }),
        json!({ "line": "user", "id": "ann", "username": "ann", "display_name": "Ann" }),
        json!({ "line": "room", "id": "den", "title": "Den", "settings": {}, "created_at": 5, "first": 1 }),
        json!({ "type": "room", "payload": { "room": "den", "seq": 1, "ts": 5, "sender": "ann", "action": "created", "title": "Den", "settings": {} } }),
    ];
    let mut text: String = beginning.iter().map(|line| format!("{line}\n")).collect();
    let last = 20_000;
    for seq in 2..=last {
        let body = "x".repeat(100);
        let said = json!({ "type": "message", "payload": { "room": "den", "seq": seq, "ts": 5, "sender": "ann", "body": body } });
        text.push_str(&format!("{said}\n"));
    }
    let end = [
        json!({ "line": "room_end", "id": "den", "events": last }),
        json!({ "line": "trailer", "rooms": 1, "users": 1, "events": last }),
    ];
    let end: String = end.iter().map(|line| format!("{line}\n")).collect();
    for (who, name) in [
        ("gateway", "KILL"),
        ("gateway", "TERM"),
        ("command", "KILL"),
    ] {
        let mut command = home.command(&["import", "-"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut import = command.spawn().unwrap();
        let mut stdin = import.stdin.take().unwrap();
        // When the pipe has taken all of it, most of it is on the disk.
        timeout(PATIENCE, stdin.write_all(text.as_bytes()))
            .await
            .unwrap()
            .unwrap();
        if who == "gateway" {
            let (mut child, _) = home.gateway.take().unwrap();
            signal(&child, name);
            timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        } else {
            signal(&import, name);
        }
        // It may have noticed before the rest is written.
        let _ = stdin.write_all(end.as_bytes()).await;
        drop(stdin);
        let output = timeout(PATIENCE, import.wait_with_output()).await;
        let code = output.unwrap().unwrap().status.code();
        assert_ne!(code, Some(0), "{who} {name}");
        if who == "gateway" {
            assert_eq!(code, Some(1), "{name}");
            home.start().await;
        }
        assert_eq!(room_ids(&home).await, [""; 0], "{who} {name}");
        assert_eq!(home.json(&["users", "list"]).await.len(), 0);
    }
    let file = home.folder.path().join("den.jsonl");
    std::fs::write(&file, &text).unwrap();
    let cut = home.refused(&["import", file.to_str().unwrap()], 1).await;
    assert!(cut.contains("without a trailer"), "{cut}");
    assert_eq!(room_ids(&home).await, [""; 0]);
    std::fs::write(&file, text + &end).unwrap();
    home.told(&["import", file.to_str().unwrap()]).await;
    let back = home.told(&["export", "den"]).await;
    assert_eq!(events(&back).len(), last);
}

#[tokio::test]
async fn what_is_wrong_with_a_line_is_told_with_its_number_and_nothing_comes_in() {
    let mut home = Home::started().await;
    home.stop().await;
    let good = [
        r#"{"line":"header","format":"stack-rooms","version":1,"made_at":5}"#,
        r#"{"line":"user","id":"ann","username":"ann","display_name":"Ann"}"#,
        r#"{"line":"room","id":"den","title":"Den","settings":{},"created_at":5,"first":1}"#,
        r#"{"type":"room","payload":{"room":"den","seq":1,"ts":5,"sender":"ann","action":"created","title":"Den","settings":{}}}"#,
        r#"{"type":"message","payload":{"room":"den","seq":2,"ts":6,"sender":"ann","body":"hello"}}"#,
        r#"{"line":"room_end","id":"den","events":2}"#,
        r#"{"line":"trailer","rooms":1,"users":1,"events":2}"#,
    ];
    let event = |rest: &str| format!(r#"{{"type":"message","payload":{{"room":"den",{rest}}}}}"#);
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let deep = event(&format!(
        r#""seq":2,"ts":6,"sender":"ann","body":"x","data":{deep}"#
    ));
    let long = event(&format!(
        r#""seq":2,"ts":6,"sender":"ann","body":"{}""#,
        "x".repeat(600_000)
    ));
    let member = |rest: &str| {
        format!(r#"{{"line":"member","role":"member","joined_at":5,"joined_seq":0,{rest}}}"#)
    };
    let cases: Vec<(usize, String, &str)> = vec![
        (1, r#"{"line":"header","format":"other","version":1,"made_at":5}"#.to_owned(), "the format is not stack-rooms"),
        (1, r#"{"line":"header","format":"stack-rooms","version":2,"made_at":5}"#.to_owned(), "version 2"),
        (1, good[1].to_owned(), "not the header"),
        (2, "{".to_owned(), "this is no line of an export"),
        (2, String::new(), "this is no line of an export"),
        (2, r#"{"line":"spaceship"}"#.to_owned(), "spaceship"),
        (2, r#"{"line":"user","id":"ann","username":"../x","display_name":"Ann"}"#.to_owned(), "a username is"),
        (3, good[1].to_owned(), "there twice"),
        (3, r#"{"line":"room","id":"../den","title":"Den","settings":{},"created_at":5,"first":1}"#.to_owned(), "a room id is"),
        (3, r#"{"line":"room","id":"den","title":"","settings":{},"created_at":5,"first":1}"#.to_owned(), "a title is"),
        (3, r#"{"line":"room","id":"den","title":"Den","settings":{"retention_days":4000000000},"created_at":5,"first":1}"#.to_owned(), "retention_days is at most"),
        (3, good[4].to_owned(), "stands in no room"),
        (3, member(r#""user_id":"ann""#), "stands in no room"),
        (4, good[4].to_owned(), "seq is 2, and 1 comes next"),
        (4, event(r#""seq":1,"ts":5,"sender":"ann","body":"x""#), "event 1 of a room tells that it was made"),
        (4, member(r#""user_id":"bob""#), "user_id is bob, of whom no line in front tells"),
        (
            5,
            format!(
                r#"{{"line":"ban","user_id":"ann","by":"ann","created_at":5,"reason":"{}"}}"#,
                "x".repeat(501)
            ),
            "a reason is at most",
        ),
        (5, event(r#""seq":3,"ts":6,"sender":"ann","body":"x""#), "seq is 3, and 2 comes next"),
        (5, event(r#""seq":2,"ts":4,"sender":"ann","body":"x""#), "ts is 4, and the event in front of it has 5"),
        (5, event(r#""seq":2,"ts":99999999999999,"sender":"ann","body":"x""#), "has not come yet"),
        (5, event(r#""seq":2,"ts":6,"sender":"bob","body":"x""#), "sender is bob"),
        (5, event(r#""seq":2,"ts":6,"sender":"ann","body":"x","reply_to":2"#), "no event in front of this one"),
        (5, event(r#""seq":2,"ts":6,"sender":"ann","body":"""#), "nothing in the message"),
        (5, good[4].replace("den", "other"), "is of the room other"),
        (5, r#"{"type":"shouted","payload":{}}"#.to_owned(), "this is no event"),
        (5, deep, "nested at most 64 deep"),
        (5, long, "longer than a line"),
        (6, r#"{"line":"room_end","id":"den","events":3}"#.to_owned(), "has 2 events, and should have 3"),
        (6, good[6].to_owned(), "the room den has not ended"),
        (4, r#"{"line":"room_end","id":"den","events":0}"#.to_owned(), "the room den has no event"),
        (3, r#"{"line":"room","id":"den","title":"Den","settings":{},"created_at":5,"first":1,"last_ts":99999999999999}"#.to_owned(), "has not come yet"),
        (7, r#"{"line":"trailer","rooms":1,"users":1,"events":3}"#.to_owned(), "tells of 3 events, and there are 2"),
    ];
    let file = home.folder.path().join("rooms.jsonl");
    let path = file.to_str().unwrap();
    for (number, line, complaint) in cases {
        let mut bad: Vec<_> = good.iter().map(|line| (*line).to_owned()).collect();
        bad[number - 1] = line;
        std::fs::write(&file, bad.join("\n")).unwrap();
        let told = home.refused(&["import", path], 1).await;
        let told = told.lines().last().unwrap();
        let expected = format!("line {number}");
        assert!(
            told.contains(&expected) && told.contains(complaint),
            "{complaint}: {told}"
        );
        assert!(told.contains("nothing has come in"), "{told}");
    }
    let behind = format!("{}\n{}", good.join("\n"), good[1]);
    std::fs::write(&file, behind).unwrap();
    let behind = home.refused(&["import", path], 1).await;
    assert!(
        behind.contains("line 8: there is something behind the trailer"),
        "{behind}"
    );
    assert_eq!(room_ids(&home).await, [""; 0]);
    assert_eq!(home.json(&["users", "list"]).await.len(), 0);
    // What stands here without a fault does come in, with the ends of lines that another system has.
    std::fs::write(&file, good.join("\r\n")).unwrap();
    home.told(&["import", path]).await;
    assert_eq!(room_ids(&home).await, ["den"]);
}

fn slack_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slack")
}

fn zipped(to: &Path) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(to).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    let folder = slack_folder();
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&folder).unwrap().to_str().unwrap();
                zip.start_file(name, options).unwrap();
                std::io::Write::write_all(&mut zip, &std::fs::read(&path).unwrap()).unwrap();
            }
        }
    }
    zip.finish().unwrap();
}

#[tokio::test]
async fn a_slack_export_comes_in_and_what_does_not_is_told() {
    let home = Home::started().await;
    let (ann, _) = home.register("ann").await;
    let folder = slack_folder();
    let import = [
        "import",
        "--slack",
        folder.to_str().unwrap(),
        "--owner",
        "ann",
    ];
    let told = home.json(&import).await;
    let left = json!({
        "archived channels, which are open rooms now": 1,
        "attachments carried as text": 1,
        "channels without messages": 1,
        "direct conversations left out": 1,
        "edited messages, of which Slack tells the last text only": 1,
        "files left out that hold no messages": 1,
        "files, of which the link is carried": 1,
        "messages left out that are not in Slack's form": 1,
        "notices of Slack's, carried as messages": 1,
        "pins left out": 1,
        "reactions left out whose senders are not told": 1,
        "replies to messages that are not in the export": 1,
        "topics and purposes of channels left out": 2,
    });
    assert_eq!(told[0]["left"], left);
    assert_eq!(room_ids(&home).await, ["board", "general", "quiet"]);
    let page = call(
        &home,
        reqwest::Method::GET,
        &ann,
        "/rooms/general/messages?after=0",
    );
    let page = done(page).await;
    let seen: Vec<_> = page["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            let mut payload = event["payload"].clone();
            for field in ["room", "settings", "title"] {
                payload.as_object_mut().unwrap().remove(field);
            }
            (event["type"].as_str().unwrap().to_owned(), payload)
        })
        .collect();
    let (ada, grace) = ("U024BE7LH", "U024BE7LI");
    let expected = [
        ("room", json!({ "seq": 1, "ts": 1_704_000_000_000_u64, "sender": ada, "action": "created" })),
        ("member", json!({ "seq": 2, "ts": 1_704_103_200_000_u64, "sender": grace, "action": "joined", "user_id": grace, "role": "member" })),
        ("message", json!({ "seq": 3, "ts": 1_704_103_201_000_u64, "sender": ada, "body": "hello & welcome, @grace: see the plan (https://example.com/a?b=1&c=2) in #general" })),
        ("reacted", json!({ "seq": 4, "ts": 1_704_103_201_000_u64, "sender": grace, "target_seq": 3, "emoji": "\u{1f44d}", "remove": false })),
        ("reacted", json!({ "seq": 5, "ts": 1_704_103_201_000_u64, "sender": "U024BE7LJ", "target_seq": 3, "emoji": "\u{1f44d}", "remove": false })),
        ("reacted", json!({ "seq": 6, "ts": 1_704_103_201_000_u64, "sender": grace, "target_seq": 3, "emoji": ":our_parrot:", "remove": false })),
        ("message", json!({ "seq": 7, "ts": 1_704_103_202_000_u64, "sender": ada, "body": "as it reads now" })),
        ("message", json!({ "seq": 8, "ts": 1_704_103_203_000_u64, "sender": grace, "body": "a reply", "reply_to": 3 })),
        ("message", json!({ "seq": 9, "ts": 1_704_189_600_000_u64, "sender": "B024BE7LK", "body": "> Build 7 (https://ci.example.com/7)\n> it passed" })),
        ("edited", json!({ "seq": 10, "ts": 1_704_189_601_000_u64, "sender": ada, "target_seq": 7, "body": "as it reads now" })),
        ("message", json!({ "seq": 11, "ts": 1_704_189_602_000_u64, "sender": grace, "body": "[file] The plan: https://example.slack.com/files/U024BE7LI/F1/plan.pdf" })),
        ("message", json!({ "seq": 12, "ts": 1_704_189_603_000_u64, "sender": "U0GUEST00", "body": "from afar" })),
        ("message", json!({ "seq": 13, "ts": 1_704_189_604_000_u64, "sender": ada, "body": "@ada set the channel topic: All of us" })),
        ("message", json!({ "seq": 14, "ts": 1_704_189_605_000_u64, "sender": "USLACKBOT", "redacted": true })),
        ("member", json!({ "seq": 15, "ts": 1_704_189_606_000_u64, "sender": grace, "action": "left", "user_id": grace })),
    ].map(|(kind, payload)| (kind.to_owned(), payload));
    assert_eq!(seen, expected);

    let users = home.json(&["users", "list"]).await;
    let people: Vec<_> = users
        .iter()
        .filter(|user| user["username"] != json!("ann"))
        .map(|user| {
            assert_eq!(
                (&user["disabled"], &user["role"]),
                (&json!(true), &json!("member"))
            );
            (
                user["username"].as_str().unwrap(),
                user["display_name"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        people,
        [
            ("deploy.imported", "deploy"),
            ("ada.imported", "Ada"),
            ("grace.imported", "Grace Hopper"),
            ("mile.zola.imported", "Émile"),
            ("a-guest.imported", "A Guest"),
            ("slackbot.imported", "Slackbot"),
        ]
    );
    let rooms = home.json(&["rooms", "list"]).await;
    assert!(
        rooms
            .iter()
            .all(|room| room["settings"]["public"] == json!(false))
    );

    // As a ZIP it is the same, with public channels public where that is asked for.
    let zip = home.folder.path().join("export.zip");
    zipped(&zip);
    let told = home
        .told(&[
            "import",
            "--slack",
            zip.to_str().unwrap(),
            "--new-ids",
            "--public",
        ])
        .await;
    assert!(
        told.contains("general as general-2: 15 events, without an owner"),
        "{told}"
    );
    assert!(told.contains("  1 direct conversations left out"), "{told}");
    let again = home
        .refused(&["import", "--slack", zip.to_str().unwrap()], 1)
        .await;
    let expected =
        "what was made of general was refused, and nothing has come in: there is a room general";
    assert!(again.contains(expected), "{again}");
    let first = home.told(&["export", "general"]).await;
    let second = home
        .told(&["export", "general-2"])
        .await
        .replace("general-2", "general");
    assert_eq!(events(&second)[1..], events(&first)[1..]);
    let rooms = home.json(&["rooms", "list"]).await;
    let public: Vec<_> = rooms
        .iter()
        .filter(|room| room["settings"]["public"] == json!(true))
        .map(|room| &room["id"])
        .collect();
    assert_eq!(public, ["general-2", "quiet-2"]);
}

#[tokio::test]
async fn a_faulty_slack_export_is_told_by_its_file_and_nothing_comes_in() {
    let home = Home::started().await;
    let folder = home.folder.path().join("slack");
    std::fs::create_dir_all(folder.join("general")).unwrap();
    let path = folder.to_str().unwrap();
    let import = ["import", "--slack", path];
    let none = home.refused(&import, 1).await;
    assert!(none.contains("there is no users.json in it"), "{none}");
    for file in ["users.json", "channels.json"] {
        std::fs::copy(slack_folder().join(file), folder.join(file)).unwrap();
    }
    let days = slack_folder().join("general");
    std::fs::copy(
        days.join("2024-01-01.json"),
        folder.join("general/2024-01-01.json"),
    )
    .unwrap();
    std::fs::write(folder.join("general/2024-01-02.json"), "[{\"type\":").unwrap();
    let broken = home.refused(&import, 1).await;
    assert!(
        broken.contains("general/2024-01-02.json: this is not in Slack's form"),
        "{broken}"
    );
    assert!(broken.contains("nothing has come in"), "{broken}");
    std::fs::write(folder.join("channels.json"), "{}").unwrap();
    let broken = home.refused(&import, 1).await;
    assert!(
        broken.contains("channels.json: this is not in Slack's form"),
        "{broken}"
    );
    let no_zip = home.folder.path().join("no.zip");
    std::fs::write(&no_zip, "PK").unwrap();
    let broken = home
        .refused(&["import", "--slack", no_zip.to_str().unwrap()], 1)
        .await;
    assert!(broken.contains("no ZIP file that can be read"), "{broken}");
    assert_eq!(room_ids(&home).await, [""; 0]);
}
