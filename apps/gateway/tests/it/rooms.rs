//! Rooms over HTTP: who sees them, who is in them, who may change them.

use serde_json::json;
use stack_testkit::TestGateway;

#[tokio::test]
async fn a_room_is_made_seen_changed_and_deleted() {
    let gateway = TestGateway::start().await;
    let alice = gateway.person("alice").await;
    let room = alice.room("general", false).await;
    for (member, value) in [
        ("id", json!("general")),
        ("role", json!("owner")),
        ("first", json!(1)),
        ("head", json!(1)),
        ("read_seq", json!(0)),
    ] {
        assert_eq!(room[member], value, "{room}");
    }
    assert_eq!(alice.get("/api/v1/rooms/general").await.expect(200), room);
    assert_eq!(
        alice.get("/api/v1/rooms").await.expect(200),
        json!({ "rooms": [room] })
    );
    let changed = alice
        .patch(
            "/api/v1/rooms/general",
            json!({ "title": "All", "settings": { "slow_mode_s": 3 } }),
        )
        .await;
    let changed = changed.expect(200);
    assert_eq!(
        (&changed["title"], &changed["settings"]["slow_mode_s"]),
        (&json!("All"), &json!(3))
    );
    assert_eq!(alice.delete("/api/v1/rooms/general").await.status, 204);
    alice
        .get("/api/v1/rooms/general")
        .await
        .problem(404, "not_found");
    alice
        .post("/api/v1/rooms", json!({ "id": "general", "title": "x" }))
        .await
        .problem(409, "conflict");
}

#[tokio::test]
async fn what_is_wrong_with_a_room_is_told() {
    let gateway = TestGateway::start().await;
    let alice = gateway.person("alice").await;
    let create = |body| alice.post("/api/v1/rooms", body);
    let field = |problem: serde_json::Value| problem["field"].clone();
    assert_eq!(
        field(
            create(json!({ "id": "No Slug", "title": "x" }))
                .await
                .problem(422, "invalid_field")
        ),
        "id"
    );
    assert_eq!(
        field(
            create(json!({ "id": "x" }))
                .await
                .problem(422, "invalid_field")
        ),
        "title"
    );
    let settings = json!({ "title": "x", "settings": { "public": "yes" } });
    assert_eq!(
        field(create(settings).await.problem(422, "invalid_field")),
        "settings.public"
    );
    alice
        .get("/api/v1/rooms/No%20Slug")
        .await
        .problem(404, "not_found");
    alice
        .get("/api/v1/rooms/%ff")
        .await
        .problem(404, "not_found");
    let made = create(json!({ "title": "Ein Raum für alle" }))
        .await
        .expect(201);
    assert!(!made["id"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn a_private_room_is_not_there_for_others() {
    let gateway = TestGateway::start().await;
    let (alice, bob) = (gateway.person("alice").await, gateway.person("bob").await);
    alice.room("secret", false).await;
    for path in ["", "/members", "/messages", "/presence", "/bans"] {
        bob.get(&format!("/api/v1/rooms/secret{path}"))
            .await
            .problem(404, "not_found");
    }
    bob.delete("/api/v1/rooms/secret")
        .await
        .problem(404, "not_found");
    assert_eq!(
        bob.get("/api/v1/rooms").await.expect(200),
        json!({ "rooms": [] })
    );
    gateway
        .program()
        .get("/api/v1/rooms/secret")
        .send()
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test]
async fn members_come_go_and_get_roles() {
    let gateway = TestGateway::start().await;
    let (alice, bob) = (gateway.person("alice").await, gateway.person("bob").await);
    alice.room("general", true).await;
    let place = |id: &str| format!("/api/v1/rooms/general/members/{id}");
    bob.patch("/api/v1/rooms/general", json!({ "title": "Mine" }))
        .await
        .problem(403, "forbidden");

    let joined = bob
        .put(&place(&bob.id), json!({ "role": "member" }))
        .await
        .expect(200);
    assert_eq!(
        (&joined["role"], &joined["user"]["username"]),
        (&json!("member"), &json!("bob"))
    );
    bob.put(&place(&bob.id), json!({ "role": "owner" }))
        .await
        .problem(403, "forbidden");
    let raised = alice
        .put(&place(&bob.id), json!({ "role": "moderator" }))
        .await
        .expect(200);
    assert_eq!(raised["role"], "moderator");
    let odd = alice
        .put(&place(&bob.id), json!({ "role": "king" }))
        .await
        .problem(422, "invalid_field");
    assert_eq!(odd["field"], "role");

    let members = bob.get("/api/v1/rooms/general/members").await.expect(200);
    assert_eq!(members["members"].as_array().unwrap().len(), 2);
    assert_eq!(bob.delete(&place(&bob.id)).await.status, 204);
    alice
        .delete(&place(&alice.id))
        .await
        .problem(409, "conflict");
    alice
        .delete(&place(&bob.id))
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn a_ban_keeps_somebody_out_until_it_is_lifted() {
    let gateway = TestGateway::start().await;
    let (alice, bob) = (gateway.person("alice").await, gateway.person("bob").await);
    alice.room("general", true).await;
    let ban = format!("/api/v1/rooms/general/bans/{}", bob.id);
    let place = format!("/api/v1/rooms/general/members/{}", bob.id);
    bob.put(&place, json!({ "role": "member" }))
        .await
        .expect(200);
    let banned = alice
        .put(&ban, json!({ "reason": "spam" }))
        .await
        .expect(200);
    assert_eq!(
        (&banned["user_id"], &banned["reason"]),
        (&json!(bob.id), &json!("spam"))
    );
    assert_eq!(
        bob.put(&place, json!({ "role": "member" })).await.status,
        403
    );
    let bans = alice.get("/api/v1/rooms/general/bans").await.expect(200);
    assert_eq!(bans["bans"][0]["user_id"], json!(bob.id));
    assert_eq!(alice.delete(&ban).await.status, 204);
    alice.delete(&ban).await.problem(404, "not_found");
    bob.put(&place, json!({ "role": "member" }))
        .await
        .expect(200);
    // A ban needs no reason, and then no body.
    alice.call("PUT", &ban).send().await.expect(200);
}

#[tokio::test]
async fn presence_is_shown_to_who_may_read() {
    let gateway = TestGateway::start().await;
    let alice = gateway.person("alice").await;
    alice.room("general", true).await;
    let presence = alice
        .get("/api/v1/rooms/general/presence")
        .await
        .expect(200);
    assert_eq!(
        (&presence["users"], &presence["count"]),
        (&json!([]), &json!(0))
    );
    assert!(presence["version"].is_u64());
}
