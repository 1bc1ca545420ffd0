//! The first run.

use std::time::Duration;

use stack_auth::{Delivery, SetUpByPassword, SetupPerson, SetupToken, Tokens};
use stack_storage::Location;
use stack_types::{ErrorCode, GlobalRole, Problem, Timestamp};

use crate::authenticator::Authenticator;
use crate::passkeys::{bare_made, config, made};
use crate::support::{Fixture, PASSWORD, code};

fn first(token: &str, username: &str) -> SetupPerson {
    SetupPerson {
        token: token.to_owned(),
        username: username.to_owned(),
        email: None,
        display_name: None,
    }
}

fn by_password(token: &str, username: &str) -> SetUpByPassword {
    SetUpByPassword {
        person: first(token, username),
        password: PASSWORD.to_owned(),
        delivery: Delivery::Body,
    }
}

async fn token(fixture: &Fixture) -> String {
    fixture.auth.setup_token().await.unwrap().unwrap().token
}

async fn claim(fixture: &Fixture, token: &str) -> Result<Tokens, Problem> {
    let asked = by_password(token, "ann");
    fixture
        .auth
        .set_up_by_password(asked, &fixture.client)
        .await
}

#[tokio::test]
async fn the_first_admin_may_answer_without_naming_the_ceremony() {
    let fixture = Fixture::with(config());
    let (auth, client) = (&fixture.auth, &fixture.client);
    let token = token(&fixture).await;
    let begun = auth.begin_setup(first(&token, "ann"), None).await.unwrap();
    let answer = bare_made(Authenticator::new().make(&begun.public_key));
    let tokens = auth.set_up_by_passkey(answer, Delivery::Body, None, client);
    assert_eq!(tokens.await.unwrap().user.role, GlobalRole::Admin);
}

#[tokio::test]
async fn the_first_admin_is_made_with_a_passkey() {
    let fixture = Fixture::with(config());
    let (auth, client) = (&fixture.auth, &fixture.client);
    let token = token(&fixture).await;
    let begun = auth.begin_setup(first(&token, "ann"), None).await.unwrap();
    let answer = made(&begun, Authenticator::new().make(&begun.public_key));
    let tokens = auth
        .set_up_by_passkey(answer, Delivery::Body, None, client)
        .await
        .unwrap();
    assert_eq!(tokens.user.role, GlobalRole::Admin);
    assert!(fixture.caller(&tokens).require_admin().is_ok());
    assert!(!auth.setup_is_open().await.unwrap());
    assert!(auth.setup_token().await.unwrap().is_none());
    assert_eq!(
        fixture.store.server_fact("setup.rp_id").unwrap().as_deref(),
        Some("chat.example")
    );
    let url = fixture.store.server_fact("setup.public_url").unwrap();
    assert_eq!(url.as_deref(), Some("https://chat.example"));
    assert_eq!(fixture.audit().await, ["setup_claimed ok"]);
}

#[tokio::test]
async fn only_the_token_makes_an_admin() {
    let fixture = Fixture::with(config());
    let token = token(&fixture).await;
    fixture.register("bob").await;
    for wrong in ["", "A", &"A".repeat(43), &token[1..], &format!("{token} ")] {
        let refused = claim(&fixture, wrong).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Forbidden);
        assert_eq!(refused.field.as_deref(), Some("token"));
        let begun = fixture.auth.begin_setup(first(wrong, "ann"), None).await;
        assert_eq!(code(begun), ErrorCode::Forbidden);
    }
    // That others were here first changes nothing.
    assert_eq!(
        claim(&fixture, &token).await.unwrap().user.role,
        GlobalRole::Admin
    );
}

#[tokio::test]
async fn a_setup_token_ends() {
    let fixture = Fixture::with(config());
    let old = token(&fixture).await;
    fixture.clock.advance(Duration::from_secs(30 * 60));
    assert_eq!(code(claim(&fixture, &old).await), ErrorCode::Forbidden);
    let new = token(&fixture).await;
    assert_ne!(new, old);
    claim(&fixture, &new).await.unwrap();
    assert_eq!(code(claim(&fixture, &new).await), ErrorCode::Conflict);
}

#[tokio::test]
async fn a_passkey_that_was_asked_for_with_a_replaced_token_sets_nothing_up() {
    let fixture = Fixture::with(config());
    let (auth, client) = (&fixture.auth, &fixture.client);
    let old = token(&fixture).await;
    fixture.clock.advance(Duration::from_secs(30 * 60 - 1));
    let begun = auth.begin_setup(first(&old, "ann"), None).await.unwrap();
    let answer = made(&begun, Authenticator::new().make(&begun.public_key));
    fixture.clock.advance(Duration::from_secs(1));
    token(&fixture).await;
    let claimed = auth
        .set_up_by_passkey(answer, Delivery::Body, None, client)
        .await;
    assert_eq!(claimed.unwrap_err().field.as_deref(), Some("token"));
    assert!(auth.setup_is_open().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_is_claimed_once() {
    let fixture = Fixture::with(config());
    let token = token(&fixture).await;
    let mut set = tokio::task::JoinSet::new();
    for number in 0..50 {
        let (auth, client, token) = (fixture.auth.clone(), fixture.client.clone(), token.clone());
        set.spawn(async move {
            let asked = by_password(&token, &format!("admin{number}"));
            auth.set_up_by_password(asked, &client).await
        });
    }
    let mut admins = 0;
    for claimed in set.join_all().await {
        match claimed {
            Ok(_) => admins += 1,
            Err(refused) => assert_eq!(refused.code, ErrorCode::Conflict, "{refused:?}"),
        }
    }
    assert_eq!(admins, 1);
}

#[tokio::test]
async fn a_sign_up_is_no_setup() {
    let fixture = Fixture::with(config());
    let (auth, client) = (&fixture.auth, &fixture.client);
    let token = token(&fixture).await;
    let begun = auth.begin_setup(first(&token, "ann"), None).await.unwrap();
    let answer = made(&begun, Authenticator::new().make(&begun.public_key));
    let signed_up = auth.sign_up(answer, Delivery::Body, None, client).await;
    assert_eq!(signed_up.err().unwrap().field.as_deref(), Some("ceremony"));
    let asked = stack_auth::SignUpByPasskey {
        username: "bob".to_owned(),
        ..Default::default()
    };
    let begun = auth.begin_sign_up(asked, None, client).await.unwrap();
    let answer = made(&begun, Authenticator::new().make(&begun.public_key));
    let claimed = auth
        .set_up_by_passkey(answer, Delivery::Body, None, client)
        .await;
    assert_eq!(claimed.unwrap_err().field.as_deref(), Some("ceremony"));
}

#[tokio::test]
async fn the_token_is_told_and_renewed_beside_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    config.keys = stack_auth::KeySource::Directory(folder.path().to_owned());
    let fixture = Fixture::at(config, Location::Memory, Timestamp(1_700_000_000_000));
    let first = token(&fixture).await;
    let beside = |now| SetupToken::of_folder(folder.path(), now).unwrap().token;
    assert_eq!(beside(Timestamp(1_700_000_000_000)), first);
    fixture.clock.advance(Duration::from_secs(30 * 60));
    let second = beside(Timestamp(1_700_001_800_000));
    assert_ne!(second, first);
    claim(&fixture, &second).await.unwrap();
    assert!(!SetupToken::is_in_folder(folder.path()));
}
