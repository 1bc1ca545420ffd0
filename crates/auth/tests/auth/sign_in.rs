//! Register and login.

use std::time::Duration;

use stack_auth::{AuthConfig, Client, Delivery, HashCost, Login, Register, Registration, SignIn};
use stack_types::{ErrorCode, GlobalRole};

use crate::support::{Fixture, PASSWORD, auth_on, code, registration};

/// † Tuwunel #318, #331.
#[tokio::test]
async fn registering_signs_in_and_the_first_is_no_admin() {
    let fixture = Fixture::new();
    let asked = Register {
        email: Some(" Ann@Example.ORG ".to_owned()),
        display_name: Some("Ann Beth".to_owned()),
        ..registration("Ann", PASSWORD)
    };
    let tokens = fixture.auth.register(asked, &fixture.client).await.unwrap();
    assert_eq!(tokens.user.username.as_str(), "ann");
    assert_eq!(tokens.user.display_name, "Ann Beth");
    assert_eq!(tokens.user.email.as_deref(), Some("ann@example.org"));
    assert_eq!(tokens.user.role, GlobalRole::Member);
    assert_eq!(tokens.expires_in_s, 600);
    assert_eq!(tokens.refresh_expires_in_s, 30 * 24 * 60 * 60);
    assert_eq!(tokens.delivery, Delivery::Body);
    let caller = fixture.caller(&tokens);
    assert_eq!(caller.user.id, tokens.user.id);
    assert_eq!(caller.session_id, tokens.session_id);
    assert_eq!(caller.expires_at, tokens.access_expires_at);
    assert_eq!(fixture.audit().await, ["register ok"]);
}

#[tokio::test]
async fn login_takes_username_and_address_in_any_case() {
    let fixture = Fixture::new();
    let asked = Register {
        email: Some("ann@example.org".to_owned()),
        ..registration("ann", PASSWORD)
    };
    let ann = fixture
        .auth
        .register(asked, &fixture.client)
        .await
        .unwrap()
        .user
        .id;
    for login in ["ann", "ANN", " ann ", "ann@example.org", " Ann@EXAMPLE.org"] {
        let tokens = fixture.login(login, PASSWORD).await.unwrap();
        assert_eq!(tokens.user.id, ann, "{login}");
        assert_eq!(tokens.delivery, Delivery::Cookie);
    }
}

#[tokio::test]
async fn what_is_taken_is_a_conflict_with_its_field() {
    let fixture = Fixture::new();
    let asked = |username: &str| Register {
        email: Some("ann@example.org".to_owned()),
        ..registration(username, PASSWORD)
    };
    fixture
        .auth
        .register(asked("ann"), &fixture.client)
        .await
        .unwrap();
    for (username, field) in [("ANN", "username"), ("bob", "email")] {
        let problem = fixture
            .auth
            .register(asked(username), &fixture.client)
            .await
            .unwrap_err();
        assert_eq!(problem.code, ErrorCode::Conflict);
        assert_eq!(problem.field.as_deref(), Some(field));
    }
}

#[tokio::test]
async fn bad_fields_are_named() {
    let fixture = Fixture::new();
    let good = || registration("ann", PASSWORD);
    let long = "x".repeat(1025);
    let cases = [
        (
            "username",
            Register {
                username: "a b".to_owned(),
                ..good()
            },
        ),
        (
            "email",
            Register {
                email: Some("ann".to_owned()),
                ..good()
            },
        ),
        (
            "display_name",
            Register {
                display_name: Some("\n".to_owned()),
                ..good()
            },
        ),
        (
            "password",
            Register {
                password: "fourteen chars".to_owned(),
                ..good()
            },
        ),
        (
            "password",
            Register {
                password: long,
                ..good()
            },
        ),
        (
            "password",
            Register {
                password: "passwordpassword".to_owned(),
                ..good()
            },
        ),
        (
            "password",
            Register {
                username: "ann.mustermann1".to_owned(),
                password: "ann.mustermann1".to_owned(),
                ..good()
            },
        ),
    ];
    for (field, asked) in cases {
        let problem = fixture
            .auth
            .register(asked, &fixture.client)
            .await
            .unwrap_err();
        assert_eq!(problem.code, ErrorCode::InvalidField, "{field}");
        assert_eq!(problem.field.as_deref(), Some(field));
    }
    assert!(fixture.audit().await.is_empty());
}

#[tokio::test]
async fn closed_registration_lets_nobody_in() {
    let fixture = Fixture::with(AuthConfig {
        registration: Registration::Closed,
        ..AuthConfig::insecure_for_tests()
    });
    assert_eq!(
        code(fixture.try_register("ann", PASSWORD).await),
        ErrorCode::Forbidden
    );
}

#[tokio::test]
async fn every_failed_sign_in_has_the_same_answer() {
    let fixture = Fixture::new();
    fixture.register("ann").await;
    fixture.register("off").await;
    fixture
        .auth
        .set_disabled(&"off".parse().unwrap(), true)
        .await
        .unwrap();
    fixture.without_password("key").await;
    let mut answers = Vec::new();
    for (login, password) in [
        ("ann", "a wrong password here"),
        ("nobody", PASSWORD),
        ("nobody@example.org", PASSWORD),
        ("off", PASSWORD),
        ("key", PASSWORD),
        ("no login at all \0", PASSWORD),
        ("", ""),
    ] {
        let problem = fixture.login(login, password).await.unwrap_err();
        answers.push((
            problem.code,
            problem.detail.to_string(),
            problem.field,
            problem.retry_after,
        ));
    }
    assert_eq!(answers[0].0, ErrorCode::InvalidCredentials);
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
}

#[tokio::test]
async fn an_oversized_password_is_never_hashed() {
    let fixture = Fixture::new();
    fixture.register("ann").await;
    let problem = fixture.login("ann", &"x".repeat(1025)).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::InvalidField);
    assert_eq!(problem.field.as_deref(), Some("password"));
}

#[tokio::test]
async fn a_hash_grows_with_the_configured_cost() {
    let fixture = Fixture::new();
    fixture.register("ann").await;
    let hash = || {
        fixture
            .store
            .account_by_login("ann")
            .unwrap()
            .unwrap()
            .password_hash
            .unwrap()
    };
    assert!(hash().contains("m=64,t=1"), "{}", hash());
    let dearer = AuthConfig {
        hash_cost: HashCost::FLOOR,
        ..AuthConfig::insecure_for_tests()
    };
    let (auth, _) = auth_on(dearer, &fixture.store, &fixture.clock);
    let asked = |password: &str| Login {
        login: "ann".to_owned(),
        password: password.to_owned(),
        delivery: Delivery::Cookie,
    };
    assert!(
        auth.login(asked("a wrong password here"), &fixture.client)
            .await
            .is_err()
    );
    assert!(hash().contains("m=64,t=1"));
    auth.login(asked(PASSWORD), &fixture.client).await.unwrap();
    assert!(hash().contains("m=19456,t=2"), "{}", hash());
    auth.login(asked(PASSWORD), &fixture.client).await.unwrap();
}

#[tokio::test]
async fn the_audit_log_tells_of_sign_ins_and_no_secrets() {
    let fixture = Fixture::new();
    let tokens = fixture.register("ann").await;
    let secret = "a wrong password here";
    assert!(fixture.login("ann", secret).await.is_err());
    assert!(fixture.login(secret, secret).await.is_err());
    fixture.login("ann", PASSWORD).await.unwrap();
    assert_eq!(
        fixture.audit().await,
        ["register ok", "login refused", "login refused", "login ok"]
    );
    let everything = format!(
        "{:?} {:?}",
        fixture.store.list_audit(None, 100).await.unwrap(),
        fixture.store.counters(String::new(), 100).await.unwrap()
    );
    for secret in [
        secret,
        PASSWORD,
        &tokens.access_token,
        &tokens.refresh_token,
    ] {
        assert!(!everything.contains(secret), "{everything}");
    }
}

#[tokio::test]
async fn a_session_knows_its_device_and_address() {
    let fixture = Fixture::new();
    fixture.register("ann").await;
    let client = Client::new(
        "2001:db8::1".parse().unwrap(),
        Some("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    );
    let asked = Login {
        login: "ann".to_owned(),
        password: PASSWORD.to_owned(),
        delivery: Delivery::Cookie,
    };
    fixture.clock.advance(Duration::from_secs(1));
    let SignIn::Done(tokens) = fixture.auth.login(asked, &client).await.unwrap() else {
        panic!("no second factor is on");
    };
    let sessions = fixture.auth.sessions(&fixture.caller(&tokens)).unwrap();
    assert_eq!(sessions.len(), 2);
    assert_eq!(sessions[1].device, "Firefox on Linux");
    assert_eq!(sessions[1].ip, "2001:db8::1");
    assert_eq!((sessions[0].current, sessions[1].current), (false, true));
}
