//! One's own account: profile, password, role.

use serde_json::value::RawValue;
use stack_auth::ProfileUpdate;
use stack_types::{Clock, ErrorCode, GlobalRole, JsonValue, UserId};

use crate::support::{Fixture, PASSWORD, code};

const NEW_PASSWORD: &str = "seven ferries came early";

fn json(text: &str) -> JsonValue {
    JsonValue(RawValue::from_string(text.to_owned()).unwrap())
}

#[tokio::test]
async fn a_profile_is_flat_json_with_settings() {
    let fixture = Fixture::new();
    let caller = fixture.caller(&fixture.register("ann").await);
    let update = ProfileUpdate {
        display_name: Some(" Ann Beth ".to_owned()),
        settings: Some(json("{\"theme\": \"dark\"}")),
    };
    let me = fixture.auth.update_profile(&caller, update).await.unwrap();
    assert_eq!(me, fixture.auth.me(&caller).unwrap());
    let shown = serde_json::to_value(&me).unwrap();
    assert_eq!(
        shown,
        serde_json::json!({"id": caller.user.id, "username": "ann", "display_name": "Ann Beth",
            "role": "member", "created_at": caller.user.created_at, "email": null,
            "settings": {"theme": "dark"}})
    );
    let unchanged = fixture
        .auth
        .update_profile(&caller, ProfileUpdate::default())
        .await
        .unwrap();
    assert_eq!(unchanged, me);
}

#[tokio::test]
async fn a_bad_profile_changes_nothing() {
    let fixture = Fixture::new();
    let caller = fixture.caller(&fixture.register("ann").await);
    for (field, update) in [
        (
            "display_name",
            ProfileUpdate {
                display_name: Some(String::new()),
                settings: Some(json("{}")),
            },
        ),
        (
            "settings",
            ProfileUpdate {
                display_name: Some("Other".to_owned()),
                settings: Some(json("[]")),
            },
        ),
    ] {
        let problem = fixture
            .auth
            .update_profile(&caller, update)
            .await
            .unwrap_err();
        assert_eq!(problem.code, ErrorCode::InvalidField);
        assert_eq!(problem.field.as_deref(), Some(field));
    }
    assert_eq!(fixture.auth.me(&caller).unwrap().user.display_name, "ann");
}

#[tokio::test]
async fn a_new_password_signs_the_others_out() {
    let fixture = Fixture::new();
    let mine = fixture.register("ann").await;
    let other = fixture.login("ann", PASSWORD).await.unwrap();
    let caller = fixture.caller(&mine);
    let change = async |current: Option<&str>, new: &str| {
        let current = current.map(str::to_owned);
        fixture
            .auth
            .change_password(&caller, current, new.to_owned(), &fixture.client)
            .await
    };
    let wrong = change(Some("a wrong password here"), NEW_PASSWORD).await;
    assert_eq!(code(wrong), ErrorCode::InvalidCredentials);
    let missing = change(None, NEW_PASSWORD).await.unwrap_err();
    assert_eq!(missing.field.as_deref(), Some("current_password"));
    for bad in ["too short", "aaaaaaaaaaaaaaaaaaa"] {
        let problem = change(Some(PASSWORD), bad).await.unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("new_password"));
    }
    fixture.caller(&other);

    change(Some(PASSWORD), NEW_PASSWORD).await.unwrap();
    assert_eq!(fixture.revoked(), [other.session_id]);
    fixture.caller(&mine);
    fixture.refresh(&mine.refresh_token).await.unwrap();
    assert_eq!(
        code(fixture.auth.authenticate(&other.access_token)),
        ErrorCode::Unauthenticated
    );
    assert_eq!(
        code(fixture.login("ann", PASSWORD).await),
        ErrorCode::InvalidCredentials
    );
    fixture.login("ann", NEW_PASSWORD).await.unwrap();
    let audit = fixture.audit().await;
    assert_eq!(
        audit[2..4],
        ["password_changed refused", "password_changed ok"]
    );
}

#[tokio::test]
async fn a_stolen_session_cannot_try_passwords_for_long() {
    let fixture = Fixture::new();
    let caller = fixture.caller(&fixture.register("ann").await);
    let change = async |current: &str| {
        let (current, new) = (Some(current.to_owned()), NEW_PASSWORD.to_owned());
        code(
            fixture
                .auth
                .change_password(&caller, current, new, &fixture.client)
                .await,
        )
    };
    for _ in 0..5 {
        assert_eq!(
            change("a wrong password here").await,
            ErrorCode::InvalidCredentials
        );
    }
    assert_eq!(change(PASSWORD).await, ErrorCode::RateLimited);
    // Signing in is another counter: a thief does not lock the owner out.
    fixture.login("ann", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_promotion_holds_from_the_next_request_on() {
    let fixture = Fixture::new();
    let tokens = fixture.register("ann").await;
    assert_eq!(fixture.caller(&tokens).user.role, GlobalRole::Member);
    let promoted = fixture.auth.promote(&"ann".parse().unwrap()).await.unwrap();
    assert_eq!(promoted.role, GlobalRole::Admin);
    assert_eq!(fixture.caller(&tokens).user.role, GlobalRole::Admin);
    assert_eq!(
        code(fixture.auth.promote(&"nobody".parse().unwrap()).await),
        ErrorCode::NotFound
    );
    assert_eq!(fixture.audit().await, ["register ok", "role_changed ok"]);
}

#[tokio::test]
async fn others_are_seen_without_what_is_theirs() {
    let fixture = Fixture::new();
    let ann = fixture.register("ann").await.user.id;
    let bob = fixture.register("bob").await.user.id;
    let unknown = UserId::generate(fixture.clock.now());
    let found = fixture.auth.users(&[bob, unknown, ann]).unwrap();
    assert_eq!(
        found.iter().map(|user| user.id).collect::<Vec<_>>(),
        [bob, ann]
    );
    assert_eq!(fixture.auth.user(unknown).unwrap(), None);
    assert_eq!(
        fixture
            .auth
            .user_by_name(&"bob".parse().unwrap())
            .unwrap()
            .unwrap()
            .id,
        bob
    );
    let shown = serde_json::to_value(&found[0]).unwrap();
    assert!(shown.get("email").is_none());
}

#[tokio::test]
async fn whoever_is_disabled_is_out_altogether() {
    let fixture = Fixture::new();
    let ann = fixture.caller(&fixture.register("ann").await);
    let name = "ann".parse().unwrap();
    fixture.auth.set_disabled(&name, true).await.unwrap();
    fixture.auth.set_disabled(&name, false).await.unwrap();
    let told = fixture.revoked.lock().clone();
    // Also what was opened without a session is to be closed, so that it is told even when there is none left.
    assert_eq!(told.len(), 1);
    assert!(told[0].everything);
    assert_eq!(
        (told[0].user_id, &told[0].sessions),
        (ann.user.id, &vec![ann.session_id])
    );
}
