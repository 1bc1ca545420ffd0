//! Asking that what one has said be erased, and when that is refused.

use std::time::Duration;

use stack_storage::{EraseWalk, ErasedBy, NewErasure};
use stack_types::{ErrorCode, UserId};

use crate::recovery::admin;
use crate::support::{Fixture, PASSWORD, code};

/// Others ask for themselves.
async fn others_ask(fixture: &Fixture, from: u32, count: u32) {
    for number in from..from + count {
        let user: UserId = format!("other-{number}").parse().unwrap();
        let by = ErasedBy {
            actor: Some(user),
            ..ErasedBy::default()
        };
        let new = NewErasure {
            user,
            room: None,
            by,
        };
        fixture.store.erase(new).await.unwrap().unwrap();
    }
}

async fn carry_out(fixture: &Fixture) {
    let mut walk = EraseWalk::default();
    while fixture.store.erase_step(&mut walk).await.unwrap() {}
}

#[tokio::test]
async fn nobody_asks_twice_at_once_nor_twice_within_an_hour() {
    let fixture = Fixture::new();
    let ann = fixture.caller(&fixture.register("ann").await);
    let (auth, client) = (&fixture.auth, &fixture.client);
    auth.erase_own_messages(&ann, client).await.unwrap();
    let again = auth.erase_own_messages(&ann, client).await;
    assert_eq!(code(again), ErrorCode::Conflict);
    carry_out(&fixture).await;
    fixture.clock.advance(Duration::from_secs(60));
    let again = auth.erase_own_messages(&ann, client).await.unwrap_err();
    assert_eq!(
        (again.code, again.retry_after),
        (ErrorCode::RateLimited, Some(Duration::from_secs(59 * 60)))
    );
    // Another may, and an admin may for them.
    let bob = fixture.caller(&fixture.register("bob").await);
    auth.erase_own_messages(&bob, client).await.unwrap();
    let root = admin(&fixture).await;
    let by_admin = auth.erase_messages(&root, ann.user.id, None, client);
    by_admin.await.unwrap();
    carry_out(&fixture).await;
    fixture.clock.advance(Duration::from_secs(59 * 60));
    let stale = auth.erase_own_messages(&ann, client).await;
    assert_eq!(code(stale), ErrorCode::Forbidden);
    let ann = fixture.caller(&fixture.login("ann", PASSWORD).await.unwrap());
    auth.erase_own_messages(&ann, client).await.unwrap();
    assert_eq!(auth.own_erasures(&ann).unwrap().len(), 3);
}

#[tokio::test]
async fn a_place_is_left_for_admins_when_many_ask_for_themselves() {
    let fixture = Fixture::new();
    let ann = fixture.caller(&fixture.register("ann").await);
    let root = admin(&fixture).await;
    let (auth, client) = (&fixture.auth, &fixture.client);
    others_ask(&fixture, 0, 16).await;
    let full = auth.erase_own_messages(&ann, client).await;
    assert_eq!(code(full), ErrorCode::LimitExceeded);
    for _ in 0..16 {
        let asked = auth.erase_messages(&root, ann.user.id, None, client);
        asked.await.unwrap();
    }
    let full = auth.erase_messages(&root, ann.user.id, None, client).await;
    assert_eq!(code(full), ErrorCode::LimitExceeded);
    carry_out(&fixture).await;
    auth.erase_own_messages(&ann, client).await.unwrap();
}
