//! Links that an admin gives to somebody who cannot sign in any more.

use std::time::Duration;

use proptest::prelude::*;
use stack_auth::{Caller, Delivery, Recovery, SignIn, SignInMethod};
use stack_types::{ErrorCode, Problem, UserId};

use crate::support::{Fixture, PASSWORD, code};
use crate::totp::{enrolled, finish};

const NEW_PASSWORD: &str = "seven ferries came early";

pub(crate) async fn admin(fixture: &Fixture) -> Caller {
    let tokens = fixture.register("root").await;
    let name = "root".parse().unwrap();
    fixture.auth.promote(&name).await.unwrap();
    fixture.caller(&tokens)
}

async fn link(fixture: &Fixture, admin: &Caller, user: UserId, reset: bool) -> String {
    let link = fixture
        .auth
        .make_recovery_link(admin, user, reset, &fixture.client);
    link.await.unwrap().token
}

pub(crate) async fn recover(
    fixture: &Fixture,
    token: &str,
    password: &str,
) -> Result<SignIn, Problem> {
    let asked = Recovery {
        token: token.to_owned(),
        new_password: password.to_owned(),
        delivery: Delivery::Body,
    };
    fixture.auth.recover(asked, &fixture.client).await
}

#[tokio::test]
async fn a_link_sets_a_password_and_ends_every_session() {
    let fixture = Fixture::new();
    let admin = admin(&fixture).await;
    let old = fixture.register("ann").await;
    for _ in 0..5 {
        assert!(fixture.login("ann", "a wrong password here").await.is_err());
    }
    let token = link(&fixture, &admin, old.user.id, false).await;
    let look = fixture.auth.look_at_recovery(&token).unwrap();
    assert_eq!(look.username.as_str(), "ann");
    assert_eq!(look.min_chars, 15);
    // A password that is refused does not use the link up.
    for bad in ["too short", "aaaaaaaaaaaaaaaaaaa"] {
        let refused = recover(&fixture, &token, bad).await.unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("new_password"));
    }
    let SignIn::Done(tokens) = recover(&fixture, &token, NEW_PASSWORD).await.unwrap() else {
        panic!("no second factor is on");
    };
    assert_eq!(fixture.revoked(), [old.session_id]);
    let session = fixture.store.session_with_account(tokens.session_id);
    assert_eq!(
        session.unwrap().unwrap().0.method,
        SignInMethod::RecoveryLink
    );
    let refused = fixture.auth.authenticate(&old.access_token);
    assert_eq!(code(refused), ErrorCode::Unauthenticated);
    // What was counted against the account is forgotten.
    fixture.login("ann", NEW_PASSWORD).await.unwrap();
    let again = recover(&fixture, &token, PASSWORD).await;
    assert_eq!(code(again), ErrorCode::Gone);
    assert_eq!(code(fixture.auth.look_at_recovery(&token)), ErrorCode::Gone);
    let audit = fixture.audit().await;
    assert!(
        audit.contains(&"recovery_link_made ok".to_owned()),
        "{audit:?}"
    );
    assert!(
        audit.contains(&"recovery_link_used ok".to_owned()),
        "{audit:?}"
    );
    let log = format!("{:?}", fixture.store.list_audit(None, 100).await.unwrap());
    assert!(!log.contains(&token));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_recovery_link_is_good_once_and_ends() {
    let fixture = Fixture::new();
    let admin = admin(&fixture).await;
    let ann = fixture.register("ann").await.user.id;
    let token = link(&fixture, &admin, ann, false).await;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (auth, client) = (fixture.auth.clone(), fixture.client.clone());
        let asked = Recovery {
            token: token.clone(),
            new_password: NEW_PASSWORD.to_owned(),
            delivery: Delivery::Body,
        };
        running.spawn(async move { auth.recover(asked, &client).await.is_ok() });
    }
    let all = running.join_all().await;
    assert_eq!(all.iter().filter(|done| **done).count(), 1);

    let late = link(&fixture, &admin, ann, false).await;
    fixture.clock.advance(Duration::from_secs(30 * 60));
    assert_eq!(
        code(recover(&fixture, &late, PASSWORD).await),
        ErrorCode::Gone
    );
}

#[tokio::test]
async fn a_link_is_void_once_the_password_is_another() {
    let fixture = Fixture::new();
    let admin = admin(&fixture).await;
    let ann = fixture.register("ann").await;
    let (one, two) = (
        link(&fixture, &admin, ann.user.id, false).await,
        link(&fixture, &admin, ann.user.id, false).await,
    );
    recover(&fixture, &one, NEW_PASSWORD).await.unwrap();
    assert_eq!(
        code(recover(&fixture, &two, PASSWORD).await),
        ErrorCode::Gone
    );
    let three = link(&fixture, &admin, ann.user.id, false).await;
    let name = "ann".parse().unwrap();
    fixture.auth.set_disabled(&name, true).await.unwrap();
    assert_eq!(
        code(recover(&fixture, &three, PASSWORD).await),
        ErrorCode::Gone
    );
    let disabled = fixture
        .auth
        .make_recovery_link(&admin, ann.user.id, false, &fixture.client);
    assert_eq!(code(disabled.await), ErrorCode::Conflict);
    // Whoever has it may be why the account was disabled.
    fixture.auth.set_disabled(&name, false).await.unwrap();
    assert_eq!(
        code(recover(&fixture, &three, PASSWORD).await),
        ErrorCode::Gone
    );
}

#[tokio::test]
async fn a_second_factor_outlasts_the_link_unless_it_is_reset() {
    let fixture = Fixture::new();
    let admin = admin(&fixture).await;
    let ann = enrolled(&fixture, "ann").await;
    let user = ann.caller.user.id;
    let token = link(&fixture, &admin, user, false).await;
    assert_eq!(fixture.auth.look_at_recovery(&token).unwrap().min_chars, 8);
    let got = recover(&fixture, &token, NEW_PASSWORD).await.unwrap();
    let SignIn::SecondFactor { ticket } = got else {
        panic!("the second factor was passed by");
    };
    finish(&fixture, &ticket, &ann.codes[0]).await.unwrap();

    let token = link(&fixture, &admin, user, true).await;
    let short = recover(&fixture, &token, "eight ch").await.unwrap_err();
    assert_eq!(short.field.as_deref(), Some("new_password"));
    let got = recover(&fixture, &token, PASSWORD).await.unwrap();
    assert!(matches!(got, SignIn::Done(_)));
    fixture.login("ann", PASSWORD).await.unwrap();
    let audit = fixture.audit().await;
    assert!(audit.contains(&"totp_disabled ok".to_owned()), "{audit:?}");
}

#[tokio::test]
async fn links_are_made_by_admins_who_signed_in_lately() {
    let fixture = Fixture::new();
    let admin = admin(&fixture).await;
    let member = fixture.caller(&fixture.register("ann").await);
    let make = async |caller: &Caller, user| {
        let made = fixture
            .auth
            .make_recovery_link(caller, user, false, &fixture.client);
        made.await.err().unwrap()
    };
    let refused = make(&member, admin.user.id).await;
    assert_eq!((refused.code, refused.field), (ErrorCode::Forbidden, None));
    let unknown = UserId::generate(stack_types::Timestamp(1));
    assert_eq!(make(&admin, unknown).await.code, ErrorCode::NotFound);
    fixture.clock.advance(Duration::from_secs(601));
    let late = make(&admin, member.user.id).await;
    assert_eq!(late.field.as_deref(), Some("reauthenticate"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_token_is_answered(token in any::<String>(), shaped in "[A-Za-z0-9_-]{43}", password in any::<String>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::new();
            for token in [token, shaped] {
                assert_eq!(code(fixture.auth.look_at_recovery(&token)), ErrorCode::Gone);
                assert_eq!(code(recover(&fixture, &token, &password).await), ErrorCode::Gone);
                assert_eq!(code(fixture.auth.look_at_invite(&token)), ErrorCode::Forbidden);
            }
        });
    }
}
