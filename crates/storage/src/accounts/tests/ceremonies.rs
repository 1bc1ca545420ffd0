//! States of begun sign-ins: taken once, of one kind, for a time, and never too many.

use super::*;

const KEY: Fingerprint = [1; 32];
const LIVES: Duration = Duration::from_secs(300);

impl Fixture {
    async fn put(&self, kind: Ceremony, key: Fingerprint) {
        let put = self
            .store
            .put_ceremony(kind, key, "state".to_owned(), LIVES);
        assert_eq!(put.await.unwrap(), Ok(()));
    }

    async fn take(&self, kind: Ceremony, key: Fingerprint) -> Option<String> {
        self.store.take_ceremony(kind, key).await.unwrap()
    }
}

#[tokio::test]
async fn a_state_is_taken_once_by_fifty() {
    let fixture = fixture();
    fixture.put(Ceremony::OauthState, KEY).await;
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = fixture.store.clone();
        tries.spawn(async move {
            store
                .take_ceremony(Ceremony::OauthState, KEY)
                .await
                .unwrap()
        });
    }
    let taken = tries.join_all().await;
    assert_eq!(taken.into_iter().flatten().count(), 1);
    assert_eq!(
        fixture.store.ceremony(Ceremony::OauthState, KEY).unwrap(),
        None
    );
}

#[tokio::test]
async fn a_state_of_one_kind_is_none_of_another() {
    let fixture = fixture();
    for kind in Ceremony::ALL {
        fixture.put(kind, KEY).await;
        for other in Ceremony::ALL.into_iter().filter(|other| *other != kind) {
            assert_eq!(fixture.take(other, KEY).await, None, "{kind:?} {other:?}");
        }
        assert_eq!(fixture.take(kind, KEY).await.as_deref(), Some("state"));
    }
}

#[tokio::test]
async fn a_state_ends_and_is_swept() {
    let fixture = fixture();
    fixture.put(Ceremony::LoginTicket, KEY).await;
    fixture.put(Ceremony::RecoveryLink, KEY).await;
    fixture.clock.advance(LIVES - Duration::from_millis(1));
    fixture.put(Ceremony::LoginTicket, [2; 32]).await;
    assert_eq!(fixture.store.sweep_ceremonies().await.unwrap(), 0);
    fixture.clock.advance(Duration::from_millis(1));
    assert_eq!(
        fixture.store.ceremony(Ceremony::LoginTicket, KEY).unwrap(),
        None
    );
    assert_eq!(fixture.take(Ceremony::LoginTicket, KEY).await, None);
    assert_eq!(fixture.store.sweep_ceremonies().await.unwrap(), 2);
    assert_eq!(fixture.store.sweep_ceremonies().await.unwrap(), 0);
    assert!(fixture.take(Ceremony::LoginTicket, [2; 32]).await.is_some());
}

#[tokio::test]
async fn there_are_never_too_many_states() {
    let fixture = fixture();
    let key = |number: u64| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        key
    };
    let mut puts = tokio::task::JoinSet::new();
    for number in 0..10_000 {
        let store = fixture.store.clone();
        puts.spawn(async move {
            let put = store.put_ceremony(Ceremony::OauthState, key(number), String::new(), LIVES);
            put.await.unwrap().unwrap();
        });
    }
    puts.join_all().await;
    let one_more = || {
        let state = String::new();
        fixture
            .store
            .put_ceremony(Ceremony::OauthState, key(10_000), state, LIVES)
    };
    assert_eq!(one_more().await.unwrap(), Err(CeremoniesFull));
    fixture.put(Ceremony::LoginTicket, KEY).await;
    fixture.clock.advance(LIVES);
    assert_eq!(one_more().await.unwrap(), Ok(()));
}
