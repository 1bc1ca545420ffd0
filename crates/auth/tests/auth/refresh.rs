//! Refresh rotation: one successor, the grace, and what happens to a token that is used twice.

use std::time::Duration;

use stack_auth::{AuthConfig, Delivery, KeySource, Lifetimes};
use stack_storage::Location;
use stack_types::{Clock, ErrorCode};

use crate::support::{Fixture, code};

const GRACE: Duration = Duration::from_secs(15);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test]
async fn a_refresh_gives_a_new_pair_delivered_as_before() {
    let fixture = Fixture::new();
    let first = fixture.register("ann").await;
    let second = fixture.refresh(&first.refresh_token).await.unwrap();
    assert_ne!(second.refresh_token, first.refresh_token);
    assert_ne!(second.access_token, first.access_token);
    assert_eq!(second.session_id, first.session_id);
    assert_eq!(second.delivery, first.delivery);
    assert_eq!(second.user, first.user);
    fixture.caller(&first);
    fixture.caller(&second);
    let cookie = fixture
        .login("ann", crate::support::PASSWORD)
        .await
        .unwrap();
    let refreshed = fixture.refresh(&cookie.refresh_token).await.unwrap();
    assert_eq!(refreshed.delivery, cookie.delivery);
}

#[tokio::test]
async fn a_token_is_good_in_the_way_only_in_which_it_was_given() {
    let fixture = Fixture::new();
    let in_body = fixture.register("ann").await;
    let in_cookie = fixture.login("ann", crate::support::PASSWORD).await;
    let in_cookie = in_cookie.unwrap();
    for (tokens, elsewhere) in [(&in_body, Delivery::Cookie), (&in_cookie, Delivery::Body)] {
        let refreshed = fixture
            .auth
            .refresh(&tokens.refresh_token, elsewhere, &fixture.client);
        assert_eq!(code(refreshed.await), ErrorCode::Unauthenticated);
        // It was not spent by that, and its session goes on.
        fixture.refresh(&tokens.refresh_token).await.unwrap();
    }
    assert!(fixture.revoked().is_empty());
}

/// † GHSA-392p-2q2v-4372: two at once must not make two families of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_refreshes_at_once_get_one_successor_and_nobody_is_signed_out() {
    let fixture = Fixture::new();
    let first = fixture.register("ann").await;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (auth, client) = (fixture.auth.clone(), fixture.client.clone());
        let token = first.refresh_token.clone();
        running.spawn(async move {
            let refreshed = auth.refresh(&token, Delivery::Body, &client);
            refreshed.await.unwrap()
        });
    }
    let all = running.join_all().await;
    assert!(
        all.iter()
            .all(|tokens| tokens.refresh_token == all[0].refresh_token)
    );
    for tokens in &all {
        fixture.caller(tokens);
    }
    assert!(fixture.revoked().is_empty());
    fixture.refresh(&all[0].refresh_token).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_was_lost_is_given_again() {
    let fixture = Fixture::new();
    let first = fixture.register("ann").await;
    let lost = fixture.refresh(&first.refresh_token).await.unwrap();
    fixture.clock.advance(GRACE);
    let again = fixture.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(again.refresh_token, lost.refresh_token);
    fixture.caller(&again);
    fixture.refresh(&again.refresh_token).await.unwrap();
}

#[tokio::test]
async fn an_answer_lost_with_the_gateway_is_given_again_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let config = || AuthConfig {
        keys: KeySource::Directory(folder.path().to_owned()),
        ..AuthConfig::insecure_for_tests()
    };
    let location = || Location::File(folder.path().join("stack.redb"));
    let now = stack_types::SystemClock.now();
    let before = Fixture::at(config(), location(), now);
    let first = before.register("ann").await;
    let lost = before.refresh(&first.refresh_token).await.unwrap();
    before.close().await;

    let after = Fixture::at(config(), location(), now.plus(Duration::from_secs(5)));
    let again = after.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(again.refresh_token, lost.refresh_token);
    after.caller(&lost);
    after.close().await;
}

#[tokio::test]
async fn a_refresh_whose_client_has_gone_still_happens() {
    let fixture = Fixture::new();
    let first = fixture.register("ann").await;
    {
        let refresh = std::pin::pin!(fixture.refresh(&first.refresh_token));
        let poll_once = std::future::poll_fn({
            let mut refresh = Some(refresh);
            move |context| {
                let pending = refresh
                    .take()
                    .is_some_and(|refresh| refresh.poll(context).is_pending());
                std::task::Poll::Ready(pending)
            }
        });
        assert!(poll_once.await);
    }
    let next = fixture.refresh(&first.refresh_token).await.unwrap();
    fixture.refresh(&next.refresh_token).await.unwrap();
    assert!(fixture.revoked().is_empty());
}

#[tokio::test]
async fn reuse_after_the_grace_revokes_the_family() {
    let fixture = Fixture::new();
    let first = fixture.register("ann").await;
    let other = fixture
        .login("ann", crate::support::PASSWORD)
        .await
        .unwrap();
    let second = fixture.refresh(&first.refresh_token).await.unwrap();
    fixture.clock.advance(GRACE + Duration::from_secs(1));
    assert_eq!(
        code(fixture.refresh(&first.refresh_token).await),
        ErrorCode::TokenReused
    );
    assert_eq!(fixture.revoked(), [first.session_id]);
    // Nothing of the family works any more, and nobody else is hurt.
    assert_eq!(
        code(fixture.refresh(&second.refresh_token).await),
        ErrorCode::Unauthenticated
    );
    assert_eq!(
        code(fixture.refresh(&first.refresh_token).await),
        ErrorCode::Unauthenticated
    );
    assert_eq!(
        code(fixture.auth.authenticate(&second.access_token)),
        ErrorCode::Unauthenticated
    );
    fixture.caller(&other);
    fixture.refresh(&other.refresh_token).await.unwrap();
    assert_eq!(
        fixture.audit().await,
        ["register ok", "login ok", "refresh_reused refused"]
    );
    assert_eq!(fixture.revoked().len(), 1);
}

#[tokio::test]
async fn a_token_two_rotations_old_revokes_the_family_even_in_the_grace() {
    let fixture = Fixture::new();
    let first = fixture.register("ann").await;
    let second = fixture.refresh(&first.refresh_token).await.unwrap();
    let third = fixture.refresh(&second.refresh_token).await.unwrap();
    assert_eq!(
        code(fixture.refresh(&first.refresh_token).await),
        ErrorCode::TokenReused
    );
    assert_eq!(
        code(fixture.refresh(&third.refresh_token).await),
        ErrorCode::Unauthenticated
    );
}

#[tokio::test]
async fn an_old_token_is_known_however_many_rotations_ago_it_was() {
    let fixture = Fixture::new();
    let first = fixture.register("ann").await;
    let mut token = first.refresh_token.clone();
    for _ in 0..20 {
        token = fixture.refresh(&token).await.unwrap().refresh_token;
        fixture.clock.advance(DAY);
    }
    assert_eq!(
        code(fixture.refresh(&first.refresh_token).await),
        ErrorCode::TokenReused
    );
    assert_eq!(
        code(fixture.refresh(&token).await),
        ErrorCode::Unauthenticated
    );
}

#[tokio::test]
async fn the_grace_can_be_switched_off() {
    let fixture = Fixture::with(AuthConfig {
        lifetimes: Lifetimes {
            refresh_grace: Duration::ZERO,
            ..Lifetimes::default()
        },
        ..AuthConfig::insecure_for_tests()
    });
    let first = fixture.register("ann").await;
    fixture.refresh(&first.refresh_token).await.unwrap();
    fixture.clock.advance(Duration::from_millis(1));
    assert_eq!(
        code(fixture.refresh(&first.refresh_token).await),
        ErrorCode::TokenReused
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_wins_a_logout_during_a_refresh_the_session_is_over() {
    for _ in 0..20 {
        let fixture = Fixture::new();
        let first = fixture.register("ann").await;
        let caller = fixture.caller(&first);
        let (refreshed, out) = tokio::join!(
            fixture.refresh(&first.refresh_token),
            fixture.auth.logout(&caller, &fixture.client)
        );
        out.unwrap();
        assert_eq!(fixture.revoked(), [first.session_id]);
        match refreshed {
            Ok(second) => {
                assert_eq!(
                    code(fixture.auth.authenticate(&second.access_token)),
                    ErrorCode::Unauthenticated
                );
                assert_eq!(
                    code(fixture.refresh(&second.refresh_token).await),
                    ErrorCode::Unauthenticated
                );
            }
            Err(problem) => assert_eq!(problem.code, ErrorCode::Unauthenticated),
        }
        assert_eq!(
            code(fixture.refresh(&first.refresh_token).await),
            ErrorCode::Unauthenticated
        );
    }
}

#[tokio::test]
async fn an_idle_token_expires() {
    let fixture = Fixture::new();
    let first = fixture.register("ann").await;
    fixture.clock.advance(30 * DAY - Duration::from_millis(1));
    let second = fixture.refresh(&first.refresh_token).await.unwrap();
    fixture.clock.advance(30 * DAY);
    assert_eq!(
        code(fixture.refresh(&second.refresh_token).await),
        ErrorCode::TokenExpired
    );
}

#[tokio::test]
async fn a_session_expires_however_much_it_is_used() {
    let fixture = Fixture::new();
    let mut tokens = fixture.register("ann").await;
    for _ in 0..4 {
        fixture.clock.advance(20 * DAY);
        tokens = fixture.refresh(&tokens.refresh_token).await.unwrap();
    }
    fixture.clock.advance(10 * DAY - Duration::from_secs(60));
    tokens = fixture.refresh(&tokens.refresh_token).await.unwrap();
    // Neither token promises more than what is left of the session.
    assert_eq!((tokens.expires_in_s, tokens.refresh_expires_in_s), (60, 60));
    fixture.caller(&tokens);
    fixture.clock.advance(Duration::from_secs(60));
    assert_eq!(
        code(fixture.refresh(&tokens.refresh_token).await),
        ErrorCode::TokenExpired
    );
    assert_eq!(
        code(fixture.auth.authenticate(&tokens.access_token)),
        ErrorCode::TokenExpired
    );
}

#[tokio::test]
async fn a_disabled_account_does_not_refresh() {
    let fixture = Fixture::new();
    let tokens = fixture.register("ann").await;
    fixture
        .auth
        .set_disabled(&"ann".parse().unwrap(), true)
        .await
        .unwrap();
    assert_eq!(fixture.revoked(), [tokens.session_id]);
    assert_eq!(
        code(fixture.refresh(&tokens.refresh_token).await),
        ErrorCode::Unauthenticated
    );
    assert_eq!(
        code(fixture.auth.authenticate(&tokens.access_token)),
        ErrorCode::Unauthenticated
    );
}

#[tokio::test]
async fn the_session_of_a_refresh_token_can_be_told() {
    let fixture = Fixture::new();
    let tokens = fixture.register("ann").await;
    assert_eq!(
        fixture.auth.session_of_refresh(&tokens.refresh_token),
        Some(tokens.session_id)
    );
    assert_eq!(fixture.auth.session_of_refresh(&tokens.access_token), None);
    let stranger = Fixture::new();
    assert_eq!(
        stranger.auth.session_of_refresh(&tokens.refresh_token),
        None
    );
}
