//! Accounts: names, profiles, passwords, roles.

use super::*;

#[tokio::test]
async fn names_and_addresses_are_unique_and_found() {
    let fixture = fixture();
    let ann = fixture.user("ann", Some("ann@example.org")).await.unwrap();
    assert_eq!(
        fixture.user("ann", None).await.unwrap_err(),
        CreateUserError::UsernameTaken
    );
    let taken = fixture
        .user("bob", Some("ann@example.org"))
        .await
        .unwrap_err();
    assert_eq!(taken, CreateUserError::EmailTaken);
    // The refused account left nothing behind.
    let bob = fixture.user("bob", None).await.unwrap();
    let store = &fixture.store;
    assert_eq!(
        store.account_by_login("ann").unwrap().unwrap().user.id,
        ann.user.id
    );
    assert_eq!(
        store
            .account_by_login("ann@example.org")
            .unwrap()
            .unwrap()
            .user
            .id,
        ann.user.id
    );
    assert!(store.account_by_login("nobody").unwrap().is_none());
    assert_eq!(
        store.users(&[bob.user.id, ann.user.id]).unwrap(),
        [bob.user.clone(), ann.user.clone()]
    );
    let page = store.list_users(Some(ann.user.id), 10).await.unwrap();
    assert!(page.iter().all(|account| account.user.id > ann.user.id));
    assert_eq!(store.list_users(None, 10).await.unwrap().len(), 2);
    assert_eq!(store.list_users(None, 1).await.unwrap().len(), 1);
    assert_eq!(fixture.actions().await, ["register", "register"]);
}

#[tokio::test]
async fn the_first_user_is_no_admin_until_promoted() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap();
    assert_eq!(ann.user.role, GlobalRole::Member);
    let role = entry(AuditAction::RoleChanged);
    let promoted = fixture
        .store
        .set_role(ann.user.id, GlobalRole::Admin, role.clone())
        .await
        .unwrap();
    assert_eq!(promoted.unwrap().role, GlobalRole::Admin);
    let nobody = UserId::generate(fixture.clock.now());
    let unknown = fixture.store.set_role(nobody, GlobalRole::Admin, role);
    assert_eq!(unknown.await.unwrap(), Err(RoleRefused::Unknown));
    assert_eq!(fixture.actions().await, ["register", "role_changed"]);
}

#[tokio::test]
async fn a_profile_changes_in_parts() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap().user.id;
    assert_eq!(fixture.store.settings(ann).unwrap(), "{}");
    let settings = ProfilePatch {
        settings: Some("{\"theme\":\"dark\"}".to_owned()),
        ..ProfilePatch::default()
    };
    fixture
        .store
        .update_profile(ann, settings)
        .await
        .unwrap()
        .unwrap();
    let name = ProfilePatch {
        display_name: Some("Ann B.".to_owned()),
        ..ProfilePatch::default()
    };
    let account = fixture
        .store
        .update_profile(ann, name.clone())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(account.user.display_name, "Ann B.");
    assert_eq!(fixture.store.settings(ann).unwrap(), "{\"theme\":\"dark\"}");
    let nobody = UserId::generate(fixture.clock.now());
    assert!(
        fixture
            .store
            .update_profile(nobody, name)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_disabled_account_neither_signs_in_nor_refreshes() {
    let fixture = fixture();
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let session = fixture.session(owner, 1).await.id;
    let disable = |on| {
        fixture
            .store
            .set_disabled(owner, on, entry(AuditAction::AccountDisabled))
    };
    assert_eq!(disable(true).await.unwrap(), Ok(Some(vec![session])));
    let asked = SignIn {
        session: fixture.new_session(owner, 2),
        verified_hash: "hash".to_owned(),
        new_hash: None,
        clear_counter: "login:ann".to_owned(),
        audit: entry(AuditAction::Login),
    };
    assert_eq!(
        fixture.store.sign_in(asked).await.unwrap().unwrap_err(),
        Stale
    );
    disable(false).await.unwrap().unwrap();
    assert_eq!(fixture.rotate(session, 1, 2).await, Rotation::Revoked);
    assert_eq!(fixture.session(owner, 3).await.user_id, owner);
}

#[tokio::test]
async fn a_password_changes_once_for_a_live_session() {
    let fixture = fixture();
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let (keep, other) = (
        fixture.session(owner, 1).await.id,
        fixture.session(owner, 2).await.id,
    );
    let change = |expected: &str, keep| PasswordChange {
        needs_second_factor: false,
        user_id: owner,
        expected_hash: Some(expected.to_owned()),
        new_hash: "new hash".to_owned(),
        keep,
        clear_counter: "password:ann".to_owned(),
        audit: entry(AuditAction::PasswordChanged),
    };
    let store = &fixture.store;
    assert_eq!(
        store.set_password(change("wrong", keep)).await.unwrap(),
        Err(Stale)
    );
    assert_eq!(
        store.set_password(change("hash", keep)).await.unwrap(),
        Ok(vec![other])
    );
    assert_eq!(
        store.set_password(change("hash", keep)).await.unwrap(),
        Err(Stale)
    );
    assert_eq!(
        store.set_password(change("new hash", other)).await.unwrap(),
        Err(Stale)
    );
    // A password that was verified before the change signs nobody in after it.
    let late = SignIn {
        session: fixture.new_session(owner, 3),
        verified_hash: "hash".to_owned(),
        new_hash: None,
        clear_counter: "login:ann".to_owned(),
        audit: entry(AuditAction::Login),
    };
    assert_eq!(store.sign_in(late).await.unwrap().unwrap_err(), Stale);
}

#[tokio::test]
async fn an_id_is_one_accounts() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap();
    let again = NewUser {
        id: ann.user.id,
        username: "another".parse().unwrap(),
        display_name: "Another".to_owned(),
        email: None,
        email_verified: false,
        password_hash: None,
        role: GlobalRole::Member,
        kind: AccountKind::External,
        invite: None,
    };
    let made = fixture
        .store
        .create_user(again, entry(AuditAction::AccountMade));
    assert_eq!(made.await.unwrap().err(), Some(CreateUserError::IdTaken));
    assert_eq!(fixture.store.account(ann.user.id).unwrap(), Some(ann));
    let found = fixture.store.account_by_login("another").unwrap();
    assert!(found.is_none());
}
