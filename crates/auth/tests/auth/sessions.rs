//! Access tokens, sessions, tickets, CSRF tokens.

use std::time::Duration;

use stack_types::{Clock, ErrorCode, SessionId};

use crate::support::{Fixture, PASSWORD, code};

#[tokio::test]
async fn an_access_token_ends_after_ten_minutes() {
    let fixture = Fixture::new();
    let tokens = fixture.register("ann").await;
    fixture.clock.advance(Duration::from_millis(600_000 - 1));
    fixture.caller(&tokens);
    fixture.clock.advance(Duration::from_millis(1));
    assert_eq!(
        code(fixture.auth.authenticate(&tokens.access_token)),
        ErrorCode::TokenExpired
    );
}

#[tokio::test]
async fn logout_ends_the_session_at_once_and_tells_once() {
    let fixture = Fixture::new();
    let tokens = fixture.register("ann").await;
    let other = fixture.login("ann", PASSWORD).await.unwrap();
    let caller = fixture.caller(&tokens);
    fixture.auth.logout(&caller, &fixture.client).await.unwrap();
    fixture.auth.logout(&caller, &fixture.client).await.unwrap();
    assert_eq!(fixture.revoked(), [tokens.session_id]);
    assert_eq!(
        code(fixture.auth.authenticate(&tokens.access_token)),
        ErrorCode::Unauthenticated
    );
    fixture.caller(&other);
    assert_eq!(
        fixture.audit().await,
        ["register ok", "login ok", "logout ok"]
    );
}

#[tokio::test]
async fn a_logout_whose_client_has_gone_still_closes_the_sockets() {
    let fixture = Fixture::new();
    let tokens = fixture.register("ann").await;
    let caller = fixture.caller(&tokens);
    let mut logout = Some(Box::pin(fixture.auth.logout(&caller, &fixture.client)));
    std::future::poll_fn(|context| {
        let polled = logout
            .as_mut()
            .map(|logout| logout.as_mut().poll(context).is_pending());
        assert_eq!(polled, Some(true));
        std::task::Poll::Ready(())
    })
    .await;
    drop(logout);
    // Maintenance ends when everything that was begun is done.
    fixture.auth.run_maintenance(std::future::ready(())).await;
    assert_eq!(fixture.revoked(), [tokens.session_id]);
}

#[tokio::test]
async fn one_revokes_ones_own_sessions_only() {
    let fixture = Fixture::new();
    let ann = fixture.register("ann").await;
    let elsewhere = fixture.login("ann", PASSWORD).await.unwrap();
    let bob = fixture.register("bob").await;
    let caller = fixture.caller(&ann);
    let revoke = async |session| {
        fixture
            .auth
            .revoke_session(&caller, session, &fixture.client)
            .await
    };
    let unknown = SessionId::generate(fixture.clock.now());
    for session in [bob.session_id, unknown] {
        assert_eq!(code(revoke(session).await), ErrorCode::NotFound);
    }
    revoke(elsewhere.session_id).await.unwrap();
    assert_eq!(
        code(revoke(elsewhere.session_id).await),
        ErrorCode::NotFound
    );
    assert_eq!(fixture.revoked(), [elsewhere.session_id]);
    assert_eq!(
        code(fixture.auth.authenticate(&elsewhere.access_token)),
        ErrorCode::Unauthenticated
    );
    fixture.caller(&bob);
    let left = fixture.auth.sessions(&caller).unwrap();
    assert_eq!(left.len(), 1);
    assert!(left[0].current);
}

#[tokio::test]
async fn last_seen_follows_requests_in_steps() {
    let fixture = Fixture::new();
    let tokens = fixture.register("ann").await;
    let created = fixture.clock.now();
    let seen = || fixture.auth.sessions(&fixture.caller(&tokens)).unwrap()[0].last_seen_at;
    fixture.clock.advance(Duration::from_secs(59));
    fixture.caller(&tokens);
    fixture.auth.flush_seen().await.unwrap();
    assert_eq!(seen(), created);
    fixture.clock.advance(Duration::from_secs(1));
    fixture.caller(&tokens);
    fixture.auth.flush_seen().await.unwrap();
    assert_eq!(seen(), created.plus(Duration::from_secs(60)));
    fixture.clock.advance(Duration::from_secs(90));
    fixture.auth.touch(tokens.session_id);
    fixture.auth.flush_seen().await.unwrap();
    assert_eq!(seen(), created.plus(Duration::from_secs(150)));
}

#[tokio::test]
async fn a_ticket_opens_one_socket_as_its_owner() {
    let fixture = Fixture::new();
    let tokens = fixture.register("ann").await;
    let caller = fixture.caller(&tokens);
    let ticket = fixture.auth.issue_ws_ticket(&caller).unwrap();
    assert_eq!(ticket.expires_in_s, 30);
    assert_eq!(
        fixture.auth.redeem_ws_ticket(&ticket.ticket).unwrap(),
        caller
    );
    assert_eq!(
        code(fixture.auth.redeem_ws_ticket(&ticket.ticket)),
        ErrorCode::Unauthenticated
    );

    let late = fixture.auth.issue_ws_ticket(&caller).unwrap();
    fixture.clock.advance(Duration::from_secs(30));
    assert_eq!(
        code(fixture.auth.redeem_ws_ticket(&late.ticket)),
        ErrorCode::Unauthenticated
    );

    let orphan = fixture.auth.issue_ws_ticket(&caller).unwrap();
    fixture.auth.logout(&caller, &fixture.client).await.unwrap();
    assert_eq!(
        code(fixture.auth.redeem_ws_ticket(&orphan.ticket)),
        ErrorCode::Unauthenticated
    );
}

#[tokio::test]
async fn a_ticket_does_not_outlive_its_token() {
    let fixture = Fixture::new();
    let tokens = fixture.register("ann").await;
    fixture.clock.advance(Duration::from_secs(590));
    let ticket = fixture
        .auth
        .issue_ws_ticket(&fixture.caller(&tokens))
        .unwrap();
    fixture.clock.advance(Duration::from_secs(10));
    assert_eq!(
        code(fixture.auth.redeem_ws_ticket(&ticket.ticket)),
        ErrorCode::TokenExpired
    );
}

#[tokio::test]
async fn csrf_tokens_are_bound_to_the_session() {
    let fixture = Fixture::new();
    let session = fixture.register("ann").await.session_id;
    let token = fixture.auth.csrf_token(Some(session)).unwrap();
    fixture
        .auth
        .verify_csrf(&token, &token, Some(session))
        .unwrap();
    let anonymous = fixture.auth.csrf_token(None).unwrap();
    fixture
        .auth
        .verify_csrf(&anonymous, &anonymous, None)
        .unwrap();
    assert_eq!(
        code(fixture.auth.verify_csrf(&token, &token, None)),
        ErrorCode::CsrfFailed
    );
    assert_eq!(
        code(
            fixture
                .auth
                .verify_csrf(&anonymous, &anonymous, Some(session))
        ),
        ErrorCode::CsrfFailed
    );
    assert_eq!(
        code(fixture.auth.verify_csrf(&token, &anonymous, Some(session))),
        ErrorCode::CsrfFailed
    );
    assert_eq!(
        code(fixture.auth.verify_csrf("", "", None)),
        ErrorCode::CsrfFailed
    );
}
