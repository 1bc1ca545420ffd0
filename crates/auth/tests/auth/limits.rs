//! What is counted over a long time, and how an admin looks after it.

use std::time::Duration;

use stack_auth::{AuditQuery, AuthConfig, Client, HashCost, SignUpByPasskey, Throttle};
use stack_types::ErrorCode;

use crate::support::{Fixture, PASSWORD, code, registration};

const WRONG: &str = "a wrong password here";

#[tokio::test]
async fn wrong_passwords_slow_down_and_a_right_one_forgives() {
    let fixture = Fixture::new();
    fixture.register("ann").await;
    for _ in 0..5 {
        assert_eq!(
            code(fixture.login("ann", WRONG).await),
            ErrorCode::InvalidCredentials
        );
    }
    for delay in [1, 2, 4, 8] {
        // Not even the right one is looked at while the wait runs.
        let problem = fixture.login("ANN", PASSWORD).await.unwrap_err();
        assert_eq!(problem.code, ErrorCode::RateLimited);
        assert_eq!(problem.retry_after, Some(Duration::from_secs(delay)));
        fixture.clock.advance(Duration::from_secs(delay));
        assert_eq!(
            code(fixture.login("ann", WRONG).await),
            ErrorCode::InvalidCredentials
        );
    }
    fixture.clock.advance(Duration::from_secs(16));
    fixture.login("ann", PASSWORD).await.unwrap();
    for _ in 0..5 {
        assert_eq!(
            code(fixture.login("ann", WRONG).await),
            ErrorCode::InvalidCredentials
        );
    }
}

#[tokio::test]
async fn a_name_and_an_address_count_apart() {
    let fixture = Fixture::new();
    let with_email = stack_auth::Register {
        email: Some("ann@example.org".to_owned()),
        ..registration("ann", PASSWORD)
    };
    fixture
        .auth
        .register(with_email, &fixture.client)
        .await
        .unwrap();
    // Whoever tries both does not learn that they are one account's, nor that the third is nobody's.
    for names in [
        ["ann", "ANN"],
        ["ann@example.org", "Ann@Example.org"],
        ["bob@example.org", "Bob@Example.org"],
    ] {
        for name in [names[0], names[1], names[0], names[1], names[0]] {
            assert_eq!(
                code(fixture.login(name, WRONG).await),
                ErrorCode::InvalidCredentials,
                "{name}"
            );
        }
        for name in names {
            assert_eq!(
                code(fixture.login(name, WRONG).await),
                ErrorCode::RateLimited,
                "{name}"
            );
        }
    }
    // A right one forgives under the spelling that it was typed with.
    fixture.clock.advance(Duration::from_secs(1));
    fixture.login("ann@example.org", PASSWORD).await.unwrap();
    assert_eq!(
        code(fixture.login("ann@example.org", WRONG).await),
        ErrorCode::InvalidCredentials
    );
}

#[tokio::test]
async fn an_unknown_login_slows_down_in_the_same_way() {
    let fixture = Fixture::new();
    for login in ["nobody", "nobody@example.org", "not a login"] {
        for _ in 0..5 {
            assert_eq!(
                code(fixture.login(login, WRONG).await),
                ErrorCode::InvalidCredentials
            );
        }
        let problem = fixture.login(login, WRONG).await.unwrap_err();
        assert_eq!(problem.code, ErrorCode::RateLimited, "{login}");
        assert_eq!(problem.retry_after, Some(Duration::from_secs(1)));
    }
}

#[tokio::test]
async fn wrong_passwords_are_forgotten_after_the_window() {
    let fixture = Fixture::new();
    fixture.register("ann").await;
    for _ in 0..5 {
        assert!(fixture.login("ann", WRONG).await.is_err());
    }
    fixture.clock.advance(Duration::from_secs(30 * 60));
    for _ in 0..5 {
        assert_eq!(
            code(fixture.login("ann", WRONG).await),
            ErrorCode::InvalidCredentials
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn guessing_side_by_side_gains_nothing() {
    let fixture = Fixture::new();
    fixture.register("ann").await;
    let (wrong, _) = side_by_side(&fixture, WRONG).await;
    // Two are hashed at once, so that one may be under way when the fifth fails.
    assert!((5..=6).contains(&wrong), "{wrong} were looked at");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn signing_in_side_by_side_is_no_guessing() {
    let fixture = Fixture::new();
    fixture.register("ann").await;
    assert_eq!(side_by_side(&fixture, PASSWORD).await, (0, 0));
}

/// Signs in 40 times at once; counts wrong credentials and rate limits.
async fn side_by_side(fixture: &Fixture, password: &str) -> (usize, usize) {
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (auth, client) = (fixture.auth.clone(), fixture.client.clone());
        let asked = stack_auth::Login {
            login: "ann".to_owned(),
            password: password.to_owned(),
            delivery: stack_auth::Delivery::Body,
        };
        running.spawn(async move {
            auth.login(asked, &client)
                .await
                .err()
                .map(|problem| problem.code)
        });
    }
    let all = running.join_all().await;
    let count = |code| all.iter().filter(|refused| **refused == Some(code)).count();
    (
        count(ErrorCode::InvalidCredentials),
        count(ErrorCode::RateLimited),
    )
}

#[tokio::test]
async fn accounts_are_rationed_by_network() {
    let fixture = Fixture::new();
    for number in 0..5 {
        fixture.register(&format!("user{number}")).await;
    }
    let problem = fixture.try_register("user5", PASSWORD).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::RateLimited);
    assert_eq!(problem.retry_after, Some(Duration::from_secs(60 * 60)));
    let elsewhere = Client::new("198.51.100.1".parse().unwrap(), None);
    fixture
        .auth
        .register(registration("user5", PASSWORD), &elsewhere)
        .await
        .unwrap();
    fixture.clock.advance(Duration::from_secs(60 * 60));
    fixture.register("user6").await;
}

/// Whether an address is an account's is told where the asking is rationed, and nowhere else.
#[tokio::test]
async fn beginning_to_sign_up_tells_nothing_of_addresses() {
    let fixture = Fixture::with(crate::passkeys::config());
    let mut asked = registration("ann", PASSWORD);
    asked.email = Some("ann@example.org".to_owned());
    let (auth, client) = (&fixture.auth, &fixture.client);
    auth.register(asked, client).await.unwrap();
    for (number, email) in ["ann@example.org", "nobody@example.org"].iter().enumerate() {
        let asked = SignUpByPasskey {
            username: format!("new{number}"),
            email: Some((*email).to_owned()),
            ..SignUpByPasskey::default()
        };
        let begun = auth.begin_sign_up(asked, None, client).await;
        assert!(begun.is_ok(), "{email}");
    }
}

#[tokio::test]
async fn the_machine_itself_has_a_larger_ration() {
    let fixture = Fixture::new();
    for ip in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        let here = Client::new(ip.parse().unwrap(), None);
        for number in 0..10 {
            let username = format!("u{}-{number}", ip.len());
            fixture
                .auth
                .register(registration(&username, PASSWORD), &here)
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn a_refused_password_does_not_use_the_ration_up() {
    let fixture = Fixture::new();
    for _ in 0..10 {
        let problem = fixture.try_register("ann", "passwordpassword").await;
        assert_eq!(code(problem), ErrorCode::InvalidField);
    }
    fixture.register("ann").await;
}

#[tokio::test]
async fn throttling_can_be_switched_off() {
    let fixture = Fixture::with(AuthConfig {
        throttle: Throttle {
            enabled: false,
            ..Throttle::default()
        },
        ..AuthConfig::insecure_for_tests()
    });
    for number in 0..8 {
        fixture.register(&format!("user{number}")).await;
        assert_eq!(
            code(fixture.login("user0", WRONG).await),
            ErrorCode::InvalidCredentials
        );
    }
}

#[tokio::test]
async fn admins_see_and_reset_counters_and_others_do_not() {
    let fixture = Fixture::new();
    let ann = fixture.register("ann").await;
    let member = fixture.caller(&ann);
    fixture.register("bob").await;
    for _ in 0..5 {
        assert!(fixture.login("bob", WRONG).await.is_err());
    }
    let auth = &fixture.auth;
    assert_eq!(
        code(auth.counters(&member, "", 10).await),
        ErrorCode::Forbidden
    );
    let refused = auth
        .counter_reset(&member, "login:bob", &fixture.client)
        .await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
    assert_eq!(
        code(auth.audit_log(&member, AuditQuery::default()).await),
        ErrorCode::Forbidden
    );

    auth.promote(&"ann".parse().unwrap()).await.unwrap();
    let admin = fixture.caller(&ann);
    let counters = auth.counters(&admin, "login:", 10).await.unwrap();
    assert_eq!(counters.len(), 1);
    assert_eq!(
        (counters[0].key.as_str(), counters[0].count),
        ("login:bob", 5)
    );
    auth.counter_reset(&admin, "login:bob", &fixture.client)
        .await
        .unwrap();
    let again = auth
        .counter_reset(&admin, "login:bob", &fixture.client)
        .await;
    assert_eq!(code(again), ErrorCode::NotFound);
    fixture.login("bob", PASSWORD).await.unwrap();
    let two = AuditQuery {
        limit: Some(2),
        ..AuditQuery::default()
    };
    let log = auth.audit_log(&admin, two).await.unwrap().0;
    assert_eq!(log[1].action, "counter_reset");
    assert_eq!(log[1].target.as_deref(), Some("login:bob"));
}

#[tokio::test]
async fn a_crowd_is_refused_before_it_fills_the_memory() {
    let fixture = Fixture::with(AuthConfig {
        hash_cost: HashCost::FLOOR,
        hashes_at_once: 1,
        hashes_waiting: 2,
        ..AuthConfig::insecure_for_tests()
    });
    fixture.register("ann").await;
    let login = || fixture.login("ann", PASSWORD);
    let (a, b, c, d, e) = tokio::join!(login(), login(), login(), login(), login());
    let refused: Vec<_> = [a, b, c, d, e]
        .into_iter()
        .filter_map(Result::err)
        .collect();
    assert_eq!(refused.len(), 2);
    for problem in refused {
        assert_eq!(problem.code, ErrorCode::Unavailable);
        assert!(problem.retry_after.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_who_is_signed_in_has_one_place_in_line() {
    let fixture = Fixture::with(AuthConfig {
        hash_cost: HashCost::FLOOR,
        hashes_at_once: 1,
        hashes_waiting: 3,
        ..AuthConfig::insecure_for_tests()
    });
    let caller = fixture.caller(&fixture.register("mallory").await);
    fixture.register("ann").await;
    let again = || {
        let password = PASSWORD.to_owned();
        fixture
            .auth
            .reauthenticate(&caller, password, None, &fixture.client)
    };
    let (a, b, c, d, login, register) = tokio::join!(
        again(),
        again(),
        again(),
        again(),
        fixture.login("ann", PASSWORD),
        fixture
            .auth
            .register(registration("bob", PASSWORD), &fixture.client),
    );
    login.unwrap();
    register.unwrap();
    let shown = [a, b, c, d];
    assert_eq!(shown.iter().filter(|shown| shown.is_ok()).count(), 1);
    for refused in shown.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code, ErrorCode::RateLimited);
    }
}
