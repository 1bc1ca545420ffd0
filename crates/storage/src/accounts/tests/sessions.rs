//! Sessions and the rotation of their refresh tokens.

use super::*;

#[tokio::test]
async fn a_refresh_rotates_repeats_and_revokes() {
    let fixture = fixture();
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let session = fixture.session(owner, 1).await;
    assert!(matches!(
        fixture.rotate(session.id, 1, 2).await,
        Rotation::Rotated(..)
    ));
    fixture.clock.advance(GRACE);
    assert!(matches!(
        fixture.rotate(session.id, 1, 2).await,
        Rotation::Repeated(..)
    ));
    fixture.clock.advance(Duration::from_millis(1));
    assert!(matches!(
        fixture.rotate(session.id, 1, 2).await,
        Rotation::Reused(_)
    ));
    assert_eq!(fixture.rotate(session.id, 2, 3).await, Rotation::Revoked);
    let (session, _) = fixture
        .store
        .session_with_account(session.id)
        .unwrap()
        .unwrap();
    assert_eq!(session.revoked_at, Some(fixture.clock.now()));
    assert_eq!(
        fixture.actions().await,
        ["register", "login", "refresh_reused"]
    );
}

#[tokio::test]
async fn a_token_two_rotations_old_is_reuse_even_in_the_grace() {
    let fixture = fixture();
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let session = fixture.session(owner, 1).await.id;
    assert!(matches!(
        fixture.rotate(session, 1, 2).await,
        Rotation::Rotated(..)
    ));
    assert!(matches!(
        fixture.rotate(session, 2, 3).await,
        Rotation::Rotated(..)
    ));
    assert!(matches!(
        fixture.rotate(session, 1, 2).await,
        Rotation::Reused(_)
    ));
}

#[tokio::test]
async fn a_repeat_with_another_successor_is_never_a_fork() {
    let fixture = fixture();
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let session = fixture.session(owner, 1).await.id;
    assert!(matches!(
        fixture.rotate(session, 1, 2).await,
        Rotation::Rotated(..)
    ));
    assert!(matches!(
        fixture.rotate(session, 1, 9).await,
        Rotation::Reused(_)
    ));
}

#[tokio::test]
async fn sessions_run_out_idle_and_absolutely() {
    let fixture = fixture();
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let idle = fixture.session(owner, 1).await.id;
    let busy = fixture.session(owner, 1).await.id;
    let mut token = 1;
    for _ in 0..3 {
        fixture.clock.advance(30 * DAY - MINUTE);
        assert!(matches!(
            fixture.rotate(busy, token, token + 1).await,
            Rotation::Rotated(..)
        ));
        token += 1;
    }
    assert_eq!(fixture.rotate(idle, 1, 2).await, Rotation::Expired);
    fixture.clock.advance(3 * MINUTE);
    assert_eq!(
        fixture.rotate(busy, token, token + 1).await,
        Rotation::Expired
    );
    assert!(fixture.store.sessions_of(owner).unwrap().is_empty());
    let unknown = SessionId::generate(fixture.clock.now());
    assert_eq!(fixture.rotate(unknown, 1, 2).await, Rotation::Unknown);
}

#[tokio::test]
async fn revoking_knows_its_owner_and_its_exception() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap().user.id;
    let bob = fixture.user("bob", None).await.unwrap().user.id;
    let (one, two) = (
        fixture.session(ann, 1).await.id,
        fixture.session(ann, 2).await.id,
    );
    let bobs = fixture.session(bob, 3).await.id;
    let store = &fixture.store;
    let revoke = |id, owner| store.revoke_session(id, owner, entry(AuditAction::SessionRevoked));
    assert!(!revoke(bobs, ann).await.unwrap());
    assert!(revoke(one, ann).await.unwrap());
    assert!(!revoke(one, ann).await.unwrap());
    assert_eq!(fixture.rotate(one, 1, 2).await, Rotation::Revoked);
    let three = fixture.session(ann, 4).await.id;
    let revoked = store
        .revoke_sessions_of(ann, Some(three), entry(AuditAction::SessionRevoked))
        .await
        .unwrap();
    assert_eq!(revoked, [two]);
    let left: Vec<_> = store
        .sessions_of(ann)
        .unwrap()
        .into_iter()
        .map(|session| session.id)
        .collect();
    assert_eq!(left, [three]);
    assert_eq!(store.sessions_of(bob).unwrap().len(), 1);
}

#[tokio::test]
async fn fifty_refreshes_at_once_have_one_successor() {
    let fixture = fixture();
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let session = fixture.session(owner, 1).await.id;
    let all = futures_of(50, || fixture.rotate(session, 1, 2)).await;
    let rotated = all
        .iter()
        .filter(|rotation| matches!(rotation, Rotation::Rotated(..)))
        .count();
    let repeated = all
        .iter()
        .filter(|rotation| matches!(rotation, Rotation::Repeated(..)))
        .count();
    assert_eq!((rotated, repeated), (1, 49));
}

/// Polls many futures side by side until all are done.
async fn futures_of<F: Future>(count: usize, make: impl Fn() -> F) -> Vec<F::Output> {
    let mut running: Vec<_> = (0..count).map(|_| Some(Box::pin(make()))).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        for slot in &mut running {
            if let Some(future) = slot
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                done.push(output);
                *slot = None;
            }
        }
        if running.iter().all(Option::is_none) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done
}
