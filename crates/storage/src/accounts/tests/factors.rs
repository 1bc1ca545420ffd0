//! Passkeys, linked accounts, one-time and recovery codes, and the last way in.

use stack_types::{LinkId, PasskeyId};

use super::*;

const HANDLE: WebauthnHandle = [9; 16];

impl Fixture {
    fn new_passkey(&self, owner: UserId, credential: u8) -> NewPasskey {
        NewPasskey {
            id: PasskeyId::generate(self.clock.now()),
            user_id: owner,
            credential_id: vec![credential; 16],
            name: "key".to_owned(),
            credential: "{\"counter\":1}".to_owned(),
        }
    }

    async fn passkey(&self, owner: UserId, credential: u8) -> Result<Passkey, AddPasskeyError> {
        let new = self.new_passkey(owner, credential);
        let added = self
            .store
            .add_passkey(new, entry(AuditAction::PasskeyAdded));
        added.await.unwrap()
    }

    async fn link(&self, owner: UserId, subject: &str) -> Result<OauthLink, AddLinkError> {
        let session = self.new_session(owner, 9);
        let id = session.id;
        let begun = self.store.begin_session(session, entry(AuditAction::Login));
        begun.await.unwrap().unwrap();
        let new = NewLink {
            id: LinkId::generate(self.clock.now()),
            user_id: owner,
            provider: "example".to_owned(),
            issuer: "https://id.example".to_owned(),
            subject: subject.to_owned(),
            email: None,
        };
        let added = self
            .store
            .add_oauth_link(new, id, entry(AuditAction::OauthLinked));
        added.await.unwrap()
    }

    async fn without_password(&self, name: &str) -> UserId {
        let new = NewUser {
            id: UserId::generate(self.clock.now()),
            username: name.parse().unwrap(),
            display_name: name.to_owned(),
            email: None,
            email_verified: false,
            password_hash: None,
            role: GlobalRole::Member,
            kind: AccountKind::Person,
            invite: None,
        };
        let made = self.store.create_user(new, entry(AuditAction::Register));
        made.await.unwrap().unwrap().user.id
    }

    async fn remove_passkey(&self, owner: UserId, id: PasskeyId) -> Removal {
        let entry = entry(AuditAction::PasskeyRemoved);
        let keep = SessionId::generate(self.clock.now());
        let removed = self.store.remove_passkey(owner, id, keep, entry).await;
        removed.unwrap().0
    }

    async fn use_passkey(&self, passkey: &Passkey, counter: u32) -> bool {
        let used = UsePasskey {
            credential_id: passkey.credential_id.clone(),
            expected: passkey.credential.clone(),
            updated: format!("{{\"counter\":{counter}}}"),
            session: self.new_session(passkey.user_id, 1),
            audit: entry(AuditAction::Login),
        };
        self.store.use_passkey(used).await.unwrap().is_ok()
    }
}

#[tokio::test]
async fn a_credential_belongs_to_one_account() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap().user.id;
    let bob = fixture.user("bob", None).await.unwrap().user.id;
    let passkey = fixture.passkey(ann, 1).await.unwrap();
    assert_eq!(fixture.passkey(bob, 1).await, Err(AddPasskeyError::Taken));
    assert_eq!(fixture.passkey(ann, 1).await, Err(AddPasskeyError::Taken));
    assert_eq!(
        fixture.store.passkeys_of(ann).unwrap(),
        std::slice::from_ref(&passkey)
    );
    assert_eq!(
        fixture.store.passkey(&[1; 16]).unwrap(),
        Some(passkey.clone())
    );
    assert_eq!(
        fixture.remove_passkey(bob, passkey.id).await,
        Removal::Unknown
    );
    assert_eq!(
        fixture.remove_passkey(ann, passkey.id).await,
        Removal::Removed
    );
    assert_eq!(fixture.store.passkey(&[1; 16]).unwrap(), None);
    assert_eq!(fixture.store.passkeys_of(ann).unwrap(), []);
}

#[tokio::test]
async fn an_account_has_twenty_passkeys_at_most() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap().user.id;
    for credential in 0..20 {
        fixture.passkey(ann, credential).await.unwrap();
    }
    assert_eq!(
        fixture.passkey(ann, 20).await,
        Err(AddPasskeyError::TooMany)
    );
}

#[tokio::test]
async fn two_answers_with_one_counter_are_one_sign_in() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap().user.id;
    let passkey = fixture.passkey(ann, 1).await.unwrap();
    assert!(fixture.use_passkey(&passkey, 2).await);
    assert!(!fixture.use_passkey(&passkey, 3).await);
    let now = fixture.store.passkey(&[1; 16]).unwrap().unwrap();
    assert_eq!(now.credential, "{\"counter\":2}");
    assert_eq!(now.last_used_at, Some(fixture.clock.now()));
    assert!(fixture.use_passkey(&now, 3).await);
}

#[tokio::test]
async fn a_copied_passkey_signs_nobody_in_and_ends_sessions() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap().user.id;
    let passkey = fixture.passkey(ann, 1).await.unwrap();
    assert!(fixture.use_passkey(&passkey, 2).await);
    let suspend = || {
        let entry = entry(AuditAction::PasskeyCompromised);
        fixture.store.suspend_passkey(vec![1; 16], entry)
    };
    assert_eq!(suspend().await.unwrap().len(), 1);
    assert_eq!(suspend().await.unwrap(), []);
    let now = fixture.store.passkey(&[1; 16]).unwrap().unwrap();
    assert!(!fixture.use_passkey(&now, 3).await);
    assert_eq!(fixture.store.ways_in(ann).unwrap().passkeys, 0);
}

#[tokio::test]
async fn a_handle_is_given_once() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap().user.id;
    assert_eq!(
        fixture.store.webauthn_handle(ann, HANDLE).await.unwrap(),
        HANDLE
    );
    assert_eq!(
        fixture.store.webauthn_handle(ann, [8; 16]).await.unwrap(),
        HANDLE
    );
    let found = fixture.store.account_by_handle(&HANDLE).unwrap().unwrap();
    assert_eq!(found.user.id, ann);
    assert!(fixture.store.account_by_handle(&[8; 16]).unwrap().is_none());
}

#[tokio::test]
async fn the_last_way_in_stays() {
    let fixture = fixture();
    let ann = fixture.without_password("ann").await;
    let one = fixture.passkey(ann, 1).await.unwrap();
    assert_eq!(
        fixture.remove_passkey(ann, one.id).await,
        Removal::LastWayIn
    );
    let link = fixture.link(ann, "ann").await.unwrap();
    assert_eq!(fixture.remove_passkey(ann, one.id).await, Removal::Removed);
    let unlink = || {
        let entry = entry(AuditAction::OauthUnlinked);
        let keep = SessionId::generate(fixture.clock.now());
        fixture.store.remove_oauth_link(ann, link.id, keep, entry)
    };
    assert_eq!(unlink().await.unwrap().0, Removal::LastWayIn);
    fixture.passkey(ann, 2).await.unwrap();
    assert_eq!(unlink().await.unwrap().0, Removal::Removed);
    assert_eq!(unlink().await.unwrap().0, Removal::Unknown);
    let ways = fixture.store.ways_in(ann).unwrap();
    assert_eq!((ways.password, ways.passkeys, ways.links), (false, 1, 0));
}

#[tokio::test]
async fn a_way_in_takes_its_sessions_with_it() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap().user.id;
    let bob = fixture.user("bob", None).await.unwrap().user.id;
    let begun = async |owner: UserId, method: SignInMethod| {
        let session = NewSession {
            method,
            ..fixture.new_session(owner, 1)
        };
        let id = session.id;
        let begun = fixture
            .store
            .begin_session(session, entry(AuditAction::Login));
        begun.await.unwrap().unwrap();
        id
    };
    let passkey = fixture.passkey(ann, 1).await.unwrap();
    let link = fixture.link(ann, "ann").await.unwrap();
    let keep = begun(ann, SignInMethod::Passkey).await;
    let by_passkey = begun(ann, SignInMethod::Passkey).await;
    let by_link = begun(ann, SignInMethod::Oauth).await;
    let by_password = begun(ann, SignInMethod::Password).await;
    let anothers = begun(bob, SignInMethod::Passkey).await;

    let audit = entry(AuditAction::PasskeyRemoved);
    let removed = fixture
        .store
        .remove_passkey(ann, passkey.id, keep, audit)
        .await;
    assert_eq!(removed.unwrap(), (Removal::Removed, vec![by_passkey]));
    let audit = entry(AuditAction::OauthUnlinked);
    let removed = fixture
        .store
        .remove_oauth_link(ann, link.id, keep, audit)
        .await;
    assert_eq!(removed.unwrap(), (Removal::Removed, vec![by_link]));
    for (session, live) in [
        (keep, true),
        (by_passkey, false),
        (by_link, false),
        (by_password, true),
        (anothers, true),
    ] {
        let (found, _) = fixture
            .store
            .session_with_account(session)
            .unwrap()
            .unwrap();
        assert_eq!(found.is_live(fixture.clock.now()), live);
    }
    let actions = fixture.actions().await;
    let last = &actions[actions.len() - 4..];
    let expected = [
        "passkey_removed",
        "sessions_revoked",
        "oauth_unlinked",
        "sessions_revoked",
    ];
    assert_eq!(last, expected);
}

#[tokio::test]
async fn an_account_elsewhere_is_linked_to_one_here() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap().user.id;
    let bob = fixture.user("bob", None).await.unwrap().user.id;
    let link = fixture.link(ann, "a").await.unwrap();
    assert_eq!(fixture.link(bob, "a").await, Err(AddLinkError::Taken));
    assert_eq!(
        fixture.store.oauth_links_of(ann).unwrap(),
        std::slice::from_ref(&link)
    );
    assert_eq!(fixture.store.oauth_links_of(bob).unwrap(), []);
    let found = fixture.store.oauth_link("https://id.example", "a").unwrap();
    assert_eq!(found, Some(link.clone()));
    assert_eq!(
        fixture
            .store
            .oauth_link("https://other.example", "a")
            .unwrap(),
        None
    );

    let sign_in = |owner| {
        let session = fixture.new_session(owner, 1);
        fixture
            .store
            .use_oauth_link(link.id, session, entry(AuditAction::Login))
    };
    assert!(sign_in(ann).await.unwrap().is_ok());
    assert_eq!(sign_in(bob).await.unwrap().map(|_| ()), Err(Stale));
}

#[tokio::test]
async fn a_code_is_good_once() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap().user.id;
    let spend = async |factor| {
        let entry = entry(AuditAction::SecondFactor);
        let spent = fixture
            .store
            .spend_factor(ann, factor, "factor:ann".to_owned(), entry);
        spent.await.unwrap()
    };
    let confirm = async |secret: &[u8]| {
        let entry = entry(AuditAction::TotpEnabled);
        let codes = vec![[1; 32], [2; 32]];
        let confirmed = fixture
            .store
            .confirm_totp(ann, secret.to_vec(), 10, codes, entry);
        confirmed.await.unwrap()
    };
    assert!(!confirm(b"one").await);
    assert!(
        fixture
            .store
            .enroll_totp(ann, b"one".to_vec())
            .await
            .unwrap()
    );
    assert!(
        fixture
            .store
            .enroll_totp(ann, b"two".to_vec())
            .await
            .unwrap()
    );
    assert!(
        !spend(Factor::Totp { step: 11 }).await,
        "it is not confirmed"
    );
    assert!(!fixture.store.ways_in(ann).unwrap().totp);
    assert!(!confirm(b"one").await, "it was replaced");
    assert!(confirm(b"two").await);
    assert!(!confirm(b"two").await);
    assert!(
        !fixture
            .store
            .enroll_totp(ann, b"three".to_vec())
            .await
            .unwrap()
    );
    assert!(fixture.store.ways_in(ann).unwrap().totp);

    assert!(!spend(Factor::Totp { step: 10 }).await);
    assert!(spend(Factor::Totp { step: 11 }).await);
    assert!(!spend(Factor::Totp { step: 11 }).await);
    assert!(!spend(Factor::Totp { step: 9 }).await);
    assert!(spend(Factor::RecoveryCode([1; 32])).await);
    assert!(!spend(Factor::RecoveryCode([1; 32])).await);
    assert_eq!(fixture.store.recovery_codes_left(ann).unwrap(), 1);

    let entry = || entry(AuditAction::RecoveryCodesMade);
    let codes = vec![[3; 32]];
    assert!(
        fixture
            .store
            .replace_recovery_codes(ann, codes, entry())
            .await
            .unwrap()
    );
    assert!(
        !spend(Factor::RecoveryCode([2; 32])).await,
        "a new set voids the old"
    );
    assert_eq!(fixture.store.recovery_codes_left(ann).unwrap(), 1);
    assert!(
        fixture
            .store
            .remove_totp(ann, Some("hash".to_owned()), entry())
            .await
            .unwrap()
    );
    assert_eq!(fixture.store.recovery_codes_left(ann).unwrap(), 0);
    assert!(!spend(Factor::RecoveryCode([3; 32])).await);
    assert!(
        !fixture
            .store
            .replace_recovery_codes(ann, vec![[4; 32]], entry())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn a_recovery_code_is_spent_once_by_fifty() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap().user.id;
    assert!(fixture.store.enroll_totp(ann, Vec::new()).await.unwrap());
    let (codes, on) = (vec![[1; 32]], entry(AuditAction::TotpEnabled));
    assert!(
        fixture
            .store
            .confirm_totp(ann, Vec::new(), 1, codes, on)
            .await
            .unwrap()
    );
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let store = fixture.store.clone();
        tries.spawn(async move {
            let code = Factor::RecoveryCode([1; 32]);
            let entry = entry(AuditAction::RecoveryCodeUsed);
            store
                .spend_factor(ann, code, String::new(), entry)
                .await
                .unwrap()
        });
    }
    let spent = tries.join_all().await;
    assert_eq!(spent.into_iter().filter(|spent| *spent).count(), 1);
}

#[tokio::test]
async fn showing_again_who_one_is_renews_the_session_and_a_refresh_does_not() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap().user.id;
    let bob = fixture.user("bob", None).await.unwrap().user.id;
    let begun = fixture
        .store
        .begin_session(fixture.new_session(ann, 1), entry(AuditAction::Login));
    let (_, session) = begun.await.unwrap().unwrap();
    assert_eq!(session.authenticated_at, fixture.clock.now());
    fixture.clock.advance(MINUTE);
    let mark = |owner| {
        let entry = entry(AuditAction::Reauthenticated);
        fixture
            .store
            .mark_authenticated(session.id, owner, SignInMethod::Passkey, entry)
    };
    let authenticated_at = || {
        let found = fixture.store.session_with_account(session.id).unwrap();
        found.unwrap().0.authenticated_at
    };
    assert!(!mark(bob).await.unwrap());
    assert_eq!(authenticated_at(), session.authenticated_at);
    assert!(mark(ann).await.unwrap());
    assert_eq!(authenticated_at(), fixture.clock.now());
}
