//! API keys, invitations, and the setup.

use stack_types::{ApiKeyId, InviteId, RoomRole};

use super::*;

impl Fixture {
    async fn api_key(&self, owner: UserId) -> ApiKey {
        let new = NewApiKey {
            id: ApiKeyId::generate(self.clock.now()),
            name: "backend".to_owned(),
            user_id: owner,
            created_by: owner,
            scopes: vec![Scope::Send, Scope::Read, Scope::Send],
            expires_at: Some(self.clock.now().plus(DAY)),
            fingerprint: [5; 32],
        };
        let added = self.store.add_api_key(new, entry(AuditAction::ApiKeyMade));
        added.await.unwrap().unwrap()
    }

    async fn admin(&self, name: &str) -> UserId {
        let id = self.user(name, None).await.unwrap().user.id;
        let role = entry(AuditAction::RoleChanged);
        let promoted = self.store.set_role(id, GlobalRole::Admin, role);
        promoted.await.unwrap().unwrap();
        id
    }

    fn new_user(&self, name: &str, invite: Option<InviteUse>) -> NewUser {
        NewUser {
            id: UserId::generate(self.clock.now()),
            username: name.parse().unwrap(),
            display_name: name.to_owned(),
            email: None,
            email_verified: false,
            password_hash: None,
            role: GlobalRole::Member,
            kind: AccountKind::Person,
            invite,
        }
    }
}

#[tokio::test]
async fn a_key_works_until_it_ends_or_is_revoked() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap().user.id;
    let key = fixture.api_key(ann).await;
    assert_eq!(key.scopes, [Scope::Read, Scope::Send]);
    let (found, fingerprint, account) =
        fixture.store.api_key_with_account(key.id).unwrap().unwrap();
    assert_eq!((&found, fingerprint, account.user.id), (&key, [5; 32], ann));
    assert!(key.is_live(fixture.clock.now()));
    assert!(!key.is_live(fixture.clock.now().plus(DAY)));

    let used = vec![(key.id, fixture.clock.now())];
    fixture.store.touch_api_keys(used).await.unwrap();
    let listed = fixture.store.list_api_keys().await.unwrap();
    assert_eq!(listed[0].last_used_at, Some(fixture.clock.now()));

    let revoke = || {
        fixture
            .store
            .revoke_api_key(key.id, entry(AuditAction::ApiKeyRevoked))
    };
    assert!(
        !revoke()
            .await
            .unwrap()
            .unwrap()
            .is_live(fixture.clock.now())
    );
    assert_eq!(revoke().await.unwrap(), None);
}

#[tokio::test]
async fn an_invitation_is_used_as_often_as_it_says() {
    let fixture = fixture();
    let ann = fixture.admin("ann").await;
    let invite = NewInvite {
        id: InviteId::generate(fixture.clock.now()),
        role: GlobalRole::Admin,
        rooms: vec![("general".parse().unwrap(), RoomRole::Member)],
        note: None,
        created_by: ann,
        key: None,
        expires_at: fixture.clock.now().plus(DAY),
        max_uses: 2,
        fingerprint: [6; 32],
    };
    let made = fixture
        .store
        .add_invite(invite, entry(AuditAction::InviteMade));
    let made = made.await.unwrap();
    let shown = |fingerprint| {
        Some(InviteUse {
            id: made.id,
            fingerprint,
        })
    };
    let register = async |name: &str, invite| {
        let new = fixture.new_user(name, invite);
        fixture
            .store
            .create_user(new, entry(AuditAction::Register))
            .await
            .unwrap()
    };
    let closed = Err(CreateUserError::InviteClosed);
    assert_eq!(register("bob", shown([7; 32])).await.map(|_| ()), closed);
    assert_eq!(
        register("ann", shown([6; 32])).await.map(|_| ()),
        Err(CreateUserError::UsernameTaken)
    );
    assert_eq!(fixture.store.invite(made.id).unwrap().unwrap().0.uses, 0);

    let mut tries = tokio::task::JoinSet::new();
    for number in 0..50 {
        let new = fixture.new_user(&format!("user{number}"), shown([6; 32]));
        let store = fixture.store.clone();
        tries.spawn(async move {
            let made = store.create_user(new, entry(AuditAction::Register));
            made.await.unwrap()
        });
    }
    let made_accounts: Vec<_> = tries.join_all().await.into_iter().flatten().collect();
    assert_eq!(made_accounts.len(), 2);
    assert!(
        made_accounts
            .iter()
            .all(|account| account.user.role == GlobalRole::Admin)
    );
    let listed = fixture.store.list_invites().await.unwrap();
    assert_eq!(listed[0].uses, 2);
    let revoke = fixture
        .store
        .revoke_invite(made.id, entry(AuditAction::InviteRevoked));
    assert!(!revoke.await.unwrap(), "it is used up");
}

#[tokio::test]
async fn a_withdrawn_invitation_is_closed() {
    let fixture = fixture();
    let ann = fixture.admin("ann").await;
    let invite = NewInvite {
        id: InviteId::generate(fixture.clock.now()),
        role: GlobalRole::Member,
        rooms: Vec::new(),
        note: None,
        created_by: ann,
        key: None,
        expires_at: fixture.clock.now().plus(DAY),
        max_uses: 1,
        fingerprint: [6; 32],
    };
    let made = fixture
        .store
        .add_invite(invite, entry(AuditAction::InviteMade));
    let made = made.await.unwrap();
    assert!(!made.is_open(made.expires_at));
    let revoke = fixture
        .store
        .revoke_invite(made.id, entry(AuditAction::InviteRevoked));
    assert!(revoke.await.unwrap());
    let shown = InviteUse {
        id: made.id,
        fingerprint: [6; 32],
    };
    let new = fixture.new_user("bob", Some(shown));
    let made = fixture.store.create_user(new, entry(AuditAction::Register));
    assert_eq!(
        made.await.unwrap().map(|_| ()),
        Err(CreateUserError::InviteClosed)
    );
}

#[tokio::test]
async fn the_setup_is_claimed_once_by_fifty() {
    let fixture = fixture();
    fixture.user("ann", None).await.unwrap();
    assert!(fixture.store.setup_is_open().await.unwrap());
    let mut tries = tokio::task::JoinSet::new();
    for number in 0..50 {
        let admin = fixture.new_user(&format!("admin{number}"), None);
        let claim = ClaimSetup {
            session: fixture.new_session(admin.id, 1),
            admin,
            passkey: None,
            facts: vec![("setup.rp_id", "localhost".to_owned())],
            audit: entry(AuditAction::SetupClaimed),
        };
        let store = fixture.store.clone();
        tries.spawn(async move { store.claim_setup(claim).await.unwrap() });
    }
    let claimed: Vec<_> = tries.join_all().await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].0.user.role, GlobalRole::Admin);
    assert!(!fixture.store.setup_is_open().await.unwrap());
    let fact = fixture.store.server_fact("setup.rp_id").unwrap();
    assert_eq!(fact.as_deref(), Some("localhost"));
}

#[tokio::test]
async fn a_server_with_an_admin_is_set_up() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap().user.id;
    let role = fixture
        .store
        .set_role(ann, GlobalRole::Admin, entry(AuditAction::RoleChanged));
    role.await.unwrap().unwrap();
    assert!(!fixture.store.setup_is_open().await.unwrap());
}
