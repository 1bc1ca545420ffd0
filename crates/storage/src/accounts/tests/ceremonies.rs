//! States of begun sign-ins: taken once, of one kind, for a time, and never too many.

use super::*;

const KEY: Fingerprint = [1; 32];
const LIVES: Duration = Duration::from_secs(300);

fn network(number: u64) -> CeremonyOwner {
    CeremonyOwner::Network(format!("net {number}"))
}

fn key(number: u64) -> Fingerprint {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    key
}

impl Fixture {
    async fn put(&self, kind: Ceremony, key: Fingerprint) {
        let put = self
            .store
            .put_ceremony(kind, network(0), key, "state".to_owned(), LIVES);
        put.await.unwrap();
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
async fn whoever_begins_much_loses_their_own() {
    let fixture = fixture();
    let kind = Ceremony::WebauthnAuthentication;
    let user = |ms| CeremonyOwner::User(UserId::generate(Timestamp(ms)));
    let (mallory, ann) = (user(1), user(2));
    let put = async |owner: &CeremonyOwner, number| {
        let put =
            fixture
                .store
                .put_ceremony(kind, owner.clone(), key(number), String::new(), LIVES);
        put.await.unwrap();
        fixture.clock.advance(Duration::from_millis(1));
    };
    let there = |number| fixture.store.ceremony(kind, key(number)).unwrap().is_some();
    put(&ann, 0).await;
    put(&network(1), 1).await;
    for number in 100..200 {
        put(&mallory, number).await;
    }
    assert!(there(0) && there(1), "what others have begun stays");
    let left: Vec<u64> = (100..200).filter(|number| there(*number)).collect();
    assert_eq!(left, (184..200).collect::<Vec<_>>());
    for number in 1000..1200 {
        put(&network(2), number).await;
    }
    let left = (1000..1200).filter(|number| there(*number)).count();
    assert_eq!(left, 128);
    // One that was taken counts no more.
    assert!(fixture.take(kind, key(199)).await.is_some());
    put(&mallory, 200).await;
    assert!(there(184));
}

#[tokio::test]
async fn a_full_table_refuses_nobody_and_drops_the_oldest() {
    let fixture = fixture();
    let kind = Ceremony::OauthState;
    let put = |number: u64| {
        let owner = network(number / 100);
        let store = fixture.store.clone();
        async move {
            let put = store.put_ceremony(kind, owner, key(number), String::new(), LIVES);
            put.await.unwrap();
        }
    };
    put(0).await;
    fixture.clock.advance(Duration::from_millis(1));
    let mut puts = tokio::task::JoinSet::new();
    for number in 1..10_000 {
        puts.spawn(put(number));
    }
    puts.join_all().await;
    fixture.put(Ceremony::LoginTicket, KEY).await;
    assert!(fixture.store.ceremony(kind, key(0)).unwrap().is_some());
    put(10_000).await;
    assert!(fixture.store.ceremony(kind, key(10_000)).unwrap().is_some());
    assert!(fixture.store.ceremony(kind, key(0)).unwrap().is_none());
    let left = (0..=10_000).filter(|number| {
        fixture
            .store
            .ceremony(kind, key(*number))
            .unwrap()
            .is_some()
    });
    assert_eq!(left.count(), 10_000);
    assert!(fixture.take(Ceremony::LoginTicket, KEY).await.is_some());
    fixture.clock.advance(LIVES);
    while fixture.store.sweep_ceremonies().await.unwrap() > 0 {}
    put(10_001).await;
    assert!(fixture.store.ceremony(kind, key(10_001)).unwrap().is_some());
}
