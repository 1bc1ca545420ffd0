//! Counters, the audit log, last seen, and the sweep.

use super::*;
use crate::SweepCursor;

#[tokio::test]
async fn counters_count_in_a_window_and_can_be_reset() {
    let fixture = fixture();
    let store = &fixture.store;
    for count in 1..=3 {
        let counter = store
            .counter_hit("login:ann".to_owned(), 30 * MINUTE, None)
            .await
            .unwrap();
        assert_eq!(counter.count, count);
        fixture.clock.advance(MINUTE);
    }
    store
        .counter_hit("register:192.0.2.1".to_owned(), MINUTE, None)
        .await
        .unwrap();
    let all = store.counters(String::new(), 10).await.unwrap();
    assert_eq!(all.len(), 2);
    let logins = store.counters("login:".to_owned(), 10).await.unwrap();
    assert_eq!(
        logins[0].last_hit_at.since(logins[0].window_started_at),
        2 * MINUTE
    );
    fixture.clock.advance(27 * MINUTE);
    assert!(store.counter("login:ann").unwrap().is_none());
    let counter = store
        .counter_hit("login:ann".to_owned(), 30 * MINUTE, None)
        .await
        .unwrap();
    assert_eq!(counter.count, 1);
    let reset = || store.counter_reset("login:ann".to_owned(), entry(AuditAction::CounterReset));
    assert!(reset().await.unwrap());
    assert!(!reset().await.unwrap());
    assert_eq!(fixture.actions().await, ["counter_reset"]);
}

#[tokio::test]
async fn a_full_counter_takes_nothing_more() {
    let fixture = fixture();
    let take = || {
        fixture
            .store
            .counter_take("register:x".to_owned(), MINUTE, 2)
    };
    assert_eq!(take().await.unwrap().unwrap().count, 1);
    let (two, three) = tokio::join!(take(), take());
    assert_ne!(two.unwrap().is_ok(), three.unwrap().is_ok());
    assert_eq!(take().await.unwrap().unwrap_err().count, 2);
    fixture.clock.advance(MINUTE);
    assert_eq!(take().await.unwrap().unwrap().count, 1);
}

#[tokio::test]
async fn last_seen_moves_at_most_once_a_minute() {
    let fixture = fixture();
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let session = fixture.session(owner, 1).await;
    let touch = |at: Timestamp| fixture.store.touch_sessions(vec![(session.id, at)], MINUTE);
    let seen = || {
        let (session, _) = fixture
            .store
            .session_with_account(session.id)
            .unwrap()
            .unwrap();
        session.last_seen_at
    };
    touch(session.created_at.plus(MINUTE - Duration::from_millis(1)))
        .await
        .unwrap();
    assert_eq!(seen(), session.created_at);
    touch(session.created_at.plus(MINUTE)).await.unwrap();
    assert_eq!(seen(), session.created_at.plus(MINUTE));
    touch(session.created_at).await.unwrap();
    assert_eq!(seen(), session.created_at.plus(MINUTE));
}

#[tokio::test]
async fn the_sweep_removes_what_is_over_and_nothing_else() {
    let fixture = fixture();
    let store = &fixture.store;
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let gone = fixture.session(owner, 1).await.id;
    store
        .revoke_session(gone, owner, entry(AuditAction::Logout))
        .await
        .unwrap();
    let stays = fixture.session(owner, 2).await.id;
    store
        .counter_hit("login:ann".to_owned(), MINUTE, None)
        .await
        .unwrap();
    store
        .counter_hit("login:bob".to_owned(), 30 * DAY, None)
        .await
        .unwrap();
    let mut cursor = AccountSweepCursor::default();
    let mut walk = async || {
        let mut total = (0, 0);
        loop {
            let swept = store.sweep_accounts(&mut cursor).await.unwrap();
            total = (total.0 + swept.sessions, total.1 + swept.counters);
            if !swept.more {
                return total;
            }
        }
    };
    assert_eq!(walk().await, (0, 0));
    fixture.clock.advance(DAY);
    assert_eq!(walk().await, (1, 1));
    assert_eq!(walk().await, (0, 0));
    assert!(store.session_with_account(gone).unwrap().is_none());
    assert!(store.session_with_account(stays).unwrap().is_some());
    assert_eq!(store.counters(String::new(), 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_audit_log_is_paged_from_the_newest() {
    let fixture = fixture();
    for _ in 0..3 {
        fixture
            .store
            .audit(entry(AuditAction::Login))
            .await
            .unwrap();
    }
    let newest = fixture.store.list_audit(None, 2).await.unwrap();
    assert_eq!(
        newest.iter().map(|record| record.id).collect::<Vec<_>>(),
        [3, 2]
    );
    let older = fixture.store.list_audit(Some(2), 2).await.unwrap();
    assert_eq!(
        older.iter().map(|record| record.id).collect::<Vec<_>>(),
        [1]
    );
}

/// Whatever happens to what an entry is about, and however long ago it was.
#[tokio::test]
async fn what_is_on_record_stays_on_record() {
    let fixture = fixture();
    let store = &fixture.store;
    let ann = fixture.user("ann", None).await.unwrap().user;
    let session = fixture.session(ann.id, 1).await.id;
    store
        .counter_hit(
            "login:ann".to_owned(),
            MINUTE,
            Some(entry(AuditAction::Login)),
        )
        .await
        .unwrap();
    let of_ann = AuditEntry {
        actor: Some(ann.id),
        session: Some(session),
        target: Some(ann.id.to_string()),
        ..entry(AuditAction::PasswordChanged)
    };
    store.audit(of_ann).await.unwrap();
    let before = store.list_audit(None, 100).await.unwrap();
    assert_eq!(before.len(), 4);

    let reset = entry(AuditAction::CounterReset);
    store
        .counter_reset("login:ann".to_owned(), reset)
        .await
        .unwrap();
    let logout = entry(AuditAction::Logout);
    store.revoke_session(session, ann.id, logout).await.unwrap();
    let disabled = entry(AuditAction::AccountDisabled);
    let out = store.set_disabled(ann.id, true, disabled).await.unwrap();
    assert!(out.is_ok());
    fixture.clock.advance(3650 * DAY);
    let mut cursor = AccountSweepCursor::default();
    while store.sweep_accounts(&mut cursor).await.unwrap().more {}
    store.sweep_ceremonies().await.unwrap();
    let mut cursor = SweepCursor::default();
    while store.sweep(&mut cursor).await.unwrap().more {}
    assert!(store.session_with_account(session).unwrap().is_none());

    let after = store.list_audit(None, 100).await.unwrap();
    assert!(after.len() > before.len() && after.ends_with(&before));
}
