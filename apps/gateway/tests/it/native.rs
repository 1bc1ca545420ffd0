//! Native clients: `stack.v1.capnp` says the same as `stack.v1.json`, with the same rights, limits and ends.

use serde_json::{Value, json};
use stack_proto::capnp::{CAPNP_SUBPROTOCOL, client_frame};
use stack_proto::{Request, SUBPROTOCOL, SendMessage};
use stack_testkit::{Closed, Native, Person, TestGateway};
use stack_types::{PresenceStatus, RoomId, Seq};

const TOMORROWS: &[u8] = include_bytes!("../../../../schema/golden/newer/client-frames.bin");

async fn room() -> (TestGateway, Person) {
    let gateway = TestGateway::start().await;
    let alice = gateway.person("alice").await;
    alice.room("general", true).await;
    (gateway, alice)
}

async fn native(gateway: &TestGateway, person: &Person) -> Native {
    Native::open(gateway.addr(), Some(&person.token)).await
}

fn general() -> RoomId {
    "general".parse().unwrap()
}

fn subscribe(after: Option<u64>) -> Request {
    Request::Subscribe {
        room: general(),
        after: after.map(Seq),
    }
}

fn send(body: &str) -> SendMessage {
    SendMessage {
        room: general(),
        body: body.to_owned(),
        data: None,
        key: None,
        reply_to: None,
    }
}

fn history() -> Request {
    Request::History {
        room: general(),
        after: Some(Seq(0)),
        before: None,
        after_ts: None,
        limit: None,
    }
}

#[tokio::test]
async fn the_first_of_ours_that_is_offered_is_spoken() {
    let gateway = TestGateway::start().await;
    for (offered, chosen) in [
        (&[CAPNP_SUBPROTOCOL, SUBPROTOCOL][..], CAPNP_SUBPROTOCOL),
        (&[SUBPROTOCOL, CAPNP_SUBPROTOCOL], SUBPROTOCOL),
        (&["other.v9", CAPNP_SUBPROTOCOL], CAPNP_SUBPROTOCOL),
    ] {
        let socket = Native::offering(gateway.addr(), None, offered).await;
        assert_eq!(socket.unwrap().subprotocol.as_deref(), Some(chosen));
    }
    let refused = Native::offering(gateway.addr(), None, &["other.v9"]).await;
    assert_eq!(refused.unwrap_err(), 400);
}

#[tokio::test]
async fn a_native_client_is_told_word_for_word_what_others_are() {
    let (gateway, alice) = room().await;
    let bob = gateway.person("bob").await;
    let mut one = Native::open(gateway.addr(), None).await;
    assert_eq!(one.refused(&history()).await["code"], "unauthenticated");
    let auth = Request::Auth {
        token: alice.token.clone(),
    };
    let signed_in = one.ok(&auth).await;
    assert_eq!(signed_in["user_id"], *alice.id);
    assert!(signed_in["session_id"].is_string() && signed_in["expires_at"].is_u64());

    let mut other = gateway.socket(&bob).await;
    let joined = other.ok("join", json!({ "room": "general" })).await;
    let again = Request::Join { room: general() };
    let mut bobs = native(&gateway, &bob).await;
    assert_eq!(bobs.ok(&again).await, joined);

    let subscribed = one.ok(&subscribe(Some(0))).await;
    let role = |role: &str| json!({ "room": "general", "head": 2, "first": 1, "role": role, "read_seq": 0 });
    assert_eq!(subscribed, role("owner"));
    let subscribed = other
        .ok("subscribe", json!({ "room": "general", "after": 0 }))
        .await;
    assert_eq!(subscribed, role("member"));

    let data = Some(serde_json::from_str(r#"{"a": [1.50, null]}"#).unwrap());
    let said = Request::Send(SendMessage {
        data,
        key: Some("k1".to_owned()),
        reply_to: Some(Seq(1)),
        ..send("größer \"🌍\"")
    });
    let sent = bobs.ok(&said).await;
    assert_eq!(
        (&sent["room"], &sent["seq"]),
        (&json!("general"), &json!(3))
    );
    // With the same key it is done once.
    assert_eq!(bobs.ok(&said).await, sent);
    let (room, seq) = (general(), Seq(3));
    let emoji = "👍".to_owned();
    for (asked, seq_of_it) in [
        (
            Request::Edit {
                room: room.clone(),
                seq,
                body: "größer".to_owned(),
            },
            4,
        ),
        (
            Request::React {
                room: room.clone(),
                seq,
                emoji,
                remove: false,
            },
            5,
        ),
        (
            Request::Redact {
                room: room.clone(),
                seq,
                reason: Some("so".to_owned()),
            },
            6,
        ),
    ] {
        assert_eq!(bobs.ok(&asked).await["seq"], seq_of_it);
    }

    let mut told = Value::Null;
    for seq in 1..=6 {
        // Who is there may be told in between.
        let is_logged = |frame: &str| frame.contains(&format!("\"seq\":{seq},"));
        let native = loop {
            match one.json().await.unwrap() {
                frame if is_logged(&frame) => break frame,
                frame => assert!(frame.contains("presence"), "{frame}"),
            }
        };
        let text = loop {
            match other.text().await.unwrap() {
                frame if is_logged(&frame) => break frame,
                frame => assert!(frame.contains("presence"), "{frame}"),
            }
        };
        assert_eq!(native, text);
        told = serde_json::from_str(&native).unwrap();
    }
    // History has what has become of them since.
    let page = other
        .ok("history", json!({ "room": "general", "after": 0 }))
        .await;
    assert_eq!(one.ok(&history()).await, page);
    assert_eq!(page["events"][2]["payload"]["redacted"], true);
    assert_eq!(page["events"][5], told);

    let presence = Request::Presence {
        status: PresenceStatus::Busy,
        text: Some("tea".to_owned()),
    };
    assert_eq!(one.ok(&presence).await, json!({}));
    let text = other.next_of("presence").await;
    assert_eq!(
        (&text["status"], &text["text"]),
        (&json!("busy"), &json!("tea"))
    );
    other
        .tell("typing", json!({ "room": "general", "on": true }))
        .await;
    let typing = one.next_of("typing").await;
    assert_eq!(
        typing,
        json!({ "room": "general", "user_id": bob.id, "on": true })
    );
    let read = Request::Read { room, seq };
    assert_eq!(one.ok(&read).await, json!({}));
    let mut device = native(&gateway, &alice).await;
    assert_eq!(device.ok(&subscribe(None)).await["read_seq"], 3);
    assert!(one.ok(&Request::Ping).await["ts"].is_u64());

    let unsubscribe = Request::Unsubscribe { room: general() };
    assert_eq!(one.ok(&unsubscribe).await, json!({}));
    assert_eq!(
        bobs.ok(&Request::Leave { room: general() }).await,
        json!({})
    );
    assert_eq!(other.next_of("unsubscribed").await["reason"], "left");
}

#[tokio::test]
async fn a_cursor_is_taken_up_by_either_dialect() {
    let (gateway, alice) = room().await;
    let mut socket = native(&gateway, &alice).await;
    for body in ["one", "two", "three"] {
        socket.ok(&Request::Send(send(body))).await;
    }
    let mut resumed = native(&gateway, &alice).await;
    resumed.tell(&subscribe(Some(2))).await;
    for (seq, body) in [(3, "two"), (4, "three")] {
        let message = resumed.next_of("message").await;
        assert_eq!(
            (&message["seq"], &message["body"]),
            (&json!(seq), &json!(body))
        );
    }
    let beyond = resumed.refused(&subscribe(Some(5))).await;
    assert_eq!(
        (&beyond["code"], &beyond["field"]),
        (&json!("invalid_field"), &json!("after"))
    );
}

#[tokio::test]
async fn what_is_refused_is_told_and_the_socket_lives() {
    let (gateway, alice) = room().await;
    let mut socket = native(&gateway, &alice).await;
    let nowhere = Request::Join {
        room: "nowhere".parse().unwrap(),
    };
    assert_eq!(socket.refused(&nowhere).await["code"], "not_found");
    let long = "x".repeat(20 * 1024);
    let refused = socket.refused(&Request::Send(send(&long))).await;
    assert_eq!(
        (&refused["code"], &refused["field"]),
        (&json!("payload_too_large"), &json!("body"))
    );
    let nothing = socket.refused(&Request::Send(send(""))).await;
    assert_eq!(nothing["field"], "body");

    // Kinds that a newer schema has; the first of the file is one that this one has too.
    let length =
        |bytes: &[u8]| 8 + 8 * u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let mut rest = TOMORROWS;
    let mut answers = Vec::new();
    while !rest.is_empty() {
        let (frame, behind) = rest.split_at(length(rest));
        socket.send_bytes(frame.to_vec()).await;
        let answer = loop {
            let frame = socket.frame().await;
            if frame["id"] == 7 {
                break frame;
            }
        };
        answers.push(answer["payload"]["code"].clone());
        rest = behind;
    }
    let codes = [
        Value::Null,
        "bad_request".into(),
        "invalid_field".into(),
        "bad_request".into(),
        "bad_request".into(),
    ];
    assert_eq!(answers, codes);
    socket.ok(&Request::Ping).await;
}

#[tokio::test]
async fn what_is_no_frame_closes_the_socket() {
    let (gateway, alice) = room().await;
    let ping = client_frame(Some(1), &Request::Ping);
    for malformed in [
        Vec::new(),
        b"{}".to_vec(),
        ping[..ping.len() - 1].to_vec(),
        [&ping[..], &ping].concat(),
        client_frame(Some(1 << 53), &Request::Ping),
    ] {
        for token in [Some(&*alice.token), None] {
            let mut socket = Native::open(gateway.addr(), token).await;
            socket.send_bytes(malformed.clone()).await;
            assert_eq!(socket.next_of("error").await["code"], "bad_request");
            assert_eq!(socket.closed().await, Closed::Code(4000), "{malformed:?}");
        }
    }
    let mut socket = native(&gateway, &alice).await;
    socket.send_text(r#"{"type":"ping","id":1}"#).await;
    assert_eq!(socket.closed().await, Closed::Code(4000));
    let mut socket = native(&gateway, &alice).await;
    socket.send_bytes(vec![0; 64 * 1024 + 1]).await;
    assert_eq!(socket.closed().await, Closed::Code(1009));
    // The other way round it is as ever.
    let mut socket = Native::offering(gateway.addr(), None, &[SUBPROTOCOL])
        .await
        .unwrap();
    socket.send_bytes(ping).await;
    assert_eq!(socket.closed().await, Closed::Code(4000));
}

#[tokio::test]
async fn a_native_client_that_reads_slowly_misses_nothing() {
    let (gateway, alice) = room().await;
    let mut slow = native(&gateway, &alice).await;
    slow.ok(&subscribe(None)).await;
    let mut socket = native(&gateway, &alice).await;
    // More than kernels hold for a reader who does not read.
    let (rounds, at_once) = (40, 25);
    let body = "x".repeat(15 * 1024);
    for _ in 0..rounds {
        for _ in 0..at_once {
            socket.begin(&Request::Send(send(&body))).await;
        }
        let mut answers = 0;
        while answers < at_once {
            let frame = socket.frame().await;
            assert_eq!(frame["type"], "ok", "{frame}");
            answers += 1;
        }
    }
    for seq in 2..2 + rounds * at_once {
        let message = slow.next_of("message").await;
        assert_eq!(message["seq"], seq);
        assert_eq!(message["body"].as_str().map(str::len), Some(body.len()));
    }
    // And a page of as much as one holds is one frame.
    let page = slow.ok(&history()).await;
    let events = page["events"].as_array().unwrap();
    assert!(events.len() > 40, "{}", events.len());
    slow.ok(&Request::Ping).await;
}

#[tokio::test]
async fn its_session_and_the_server_end_it_as_they_end_others() {
    let (gateway, alice) = room().await;
    let mut socket = native(&gateway, &alice).await;
    socket.ok(&Request::Ping).await;
    let laptop = alice.another_device("alice").await;
    let mut going = native(&gateway, &laptop).await;
    going.ok(&Request::Ping).await;
    let out = alice.call("POST", "/api/v1/auth/logout").send().await;
    assert_eq!(out.status, 204);
    assert_eq!(
        socket.next_of("session").await,
        json!({ "state": "revoked" })
    );
    assert_eq!(socket.closed().await, Closed::Code(4001));

    let stopping = gateway.shutdown();
    let leaving = async {
        assert!(going.next_of("drain").await["reconnect_in_ms"].is_u64());
        assert_eq!(going.closed().await, Closed::Code(1001));
    };
    tokio::join!(stopping, leaving);
}
