//! Accounts as admins look after them.

use std::time::Duration;

use stack_auth::{AccountQuery, AuthConfig, Caller, MakeAccount, Registration, SignIn};
use stack_types::{ErrorCode, GlobalRole};

use crate::recovery::{admin, recover};
use crate::support::{Fixture, PASSWORD, code};

fn account(username: &str) -> MakeAccount {
    MakeAccount {
        username: username.to_owned(),
        email: None,
        display_name: None,
        role: None,
    }
}

#[tokio::test]
async fn admins_make_accounts_also_where_nobody_may_register() {
    let open = Fixture::new();
    admin(&open).await;
    let config = AuthConfig {
        registration: Registration::Closed,
        ..AuthConfig::insecure_for_tests()
    };
    let fixture = open.again(config);
    let root = fixture.login("root", PASSWORD).await.unwrap();
    let root = fixture.caller(&root);
    let make = MakeAccount {
        email: Some(" Ann@Example.ORG".to_owned()),
        display_name: Some("Ann Beth".to_owned()),
        role: Some(GlobalRole::Admin),
        ..account(" Ann ")
    };
    let made = fixture
        .auth
        .make_account(&root, make, &fixture.client)
        .await;
    let (ann, link) = made.unwrap();
    assert_eq!(ann.user.username.as_str(), "ann");
    assert_eq!(ann.user.email.as_deref(), Some("ann@example.org"));
    assert!(!ann.factors.password);
    let nobody = fixture.begin_login("ann", PASSWORD).await;
    assert_eq!(code(nobody), ErrorCode::InvalidCredentials);
    let SignIn::Done(tokens) = recover(&fixture, &link.token, PASSWORD).await.unwrap() else {
        panic!("no second factor is on");
    };
    assert_eq!(tokens.user.role, GlobalRole::Admin);
    fixture.login("ann@example.org", PASSWORD).await.unwrap();

    let taken = fixture
        .auth
        .make_account(&root, account("ANN"), &fixture.client);
    assert_eq!(
        taken.await.err().unwrap().field.as_deref(),
        Some("username")
    );
    let bad = fixture
        .auth
        .make_account(&root, account("a b"), &fixture.client);
    assert_eq!(bad.await.err().unwrap().field.as_deref(), Some("username"));
}

#[tokio::test]
async fn accounts_are_listed_and_searched() {
    let fixture = Fixture::new();
    let root = admin(&fixture).await;
    for name in ["ann", "anton", "bob"] {
        fixture.clock.advance(Duration::from_millis(1));
        fixture.register(name).await;
    }
    let list = async |query: AccountQuery| {
        let accounts = fixture.auth.accounts(&root, query).await.unwrap();
        let names = accounts.iter().map(|view| view.user.username.to_string());
        names.collect::<Vec<_>>()
    };
    let all = AccountQuery::default;
    assert_eq!(list(all()).await, ["root", "ann", "anton", "bob"]);
    let found = AccountQuery {
        part: Some(" AN".to_owned()),
        ..all()
    };
    assert_eq!(list(found.clone()).await, ["ann", "anton"]);
    assert_eq!(
        list(AccountQuery {
            limit: Some(1),
            ..found
        })
        .await,
        ["ann"]
    );
    let ann = fixture.auth.user_by_name(&"ann".parse().unwrap()).unwrap();
    let after = ann.map(|ann| ann.id);
    assert_eq!(
        list(AccountQuery { after, ..all() }).await,
        ["anton", "bob"]
    );
    for limit in [0, 201, u64::MAX] {
        let query = AccountQuery {
            limit: Some(limit),
            ..all()
        };
        let refused = fixture.auth.accounts(&root, query).await.unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("limit"));
    }
    let member = fixture.caller(&fixture.login("bob", PASSWORD).await.unwrap());
    assert_eq!(
        code(fixture.auth.accounts(&member, all()).await),
        ErrorCode::Forbidden
    );
    assert_eq!(
        code(fixture.auth.account(&member, root.user.id)),
        ErrorCode::Forbidden
    );
}

#[tokio::test]
async fn admins_disable_others_and_never_the_last_of_them() {
    let fixture = Fixture::new();
    let root = admin(&fixture).await;
    let tokens = fixture.register("ann").await;
    let ann = fixture.caller(&tokens);
    let (auth, client) = (&fixture.auth, &fixture.client);
    let disable = async |by: &Caller, who: &Caller, disabled| {
        auth.disable(by, who.user.id, disabled, client).await
    };
    assert_eq!(code(disable(&ann, &root, true).await), ErrorCode::Forbidden);
    assert_eq!(code(disable(&root, &root, true).await), ErrorCode::Conflict);
    disable(&root, &ann, true).await.unwrap();
    assert!(fixture.revoked.lock()[0].everything);
    assert_eq!(
        code(auth.authenticate(&tokens.access_token)),
        ErrorCode::Unauthenticated
    );
    assert_eq!(
        code(fixture.login("ann", PASSWORD).await),
        ErrorCode::InvalidCredentials
    );
    assert!(auth.account(&root, ann.user.id).unwrap().disabled);
    disable(&root, &ann, false).await.unwrap();
    let ann = fixture.caller(&fixture.login("ann", PASSWORD).await.unwrap());

    let operator = auth.set_disabled(&"root".parse().unwrap(), true).await;
    assert_eq!(code(operator), ErrorCode::Conflict, "the last admin stays");
    auth.promote(&"ann".parse().unwrap()).await.unwrap();
    let ann = auth
        .account(&root, ann.user.id)
        .map(|_| fixture.login("ann", PASSWORD));
    let ann = fixture.caller(&ann.unwrap().await.unwrap());
    disable(&ann, &root, true).await.unwrap();
    fixture.clock.advance(Duration::from_secs(601));
    let late = disable(&ann, &root, false).await.unwrap_err();
    assert_eq!(late.field.as_deref(), Some("reauthenticate"));
}

#[tokio::test]
async fn the_last_admin_stays() {
    let fixture = Fixture::new();
    let root = admin(&fixture).await;
    let ann = fixture.caller(&fixture.register("ann").await);
    let (auth, client) = (&fixture.auth, &fixture.client);
    let give =
        async |by: &Caller, who: &Caller, role| auth.set_role(by, who.user.id, role, client).await;
    let (admin, member) = (GlobalRole::Admin, GlobalRole::Member);
    assert_eq!(code(give(&ann, &ann, admin).await), ErrorCode::Forbidden);
    assert_eq!(code(give(&root, &root, member).await), ErrorCode::Conflict);
    give(&root, &ann, admin).await.unwrap();
    // A disabled admin looks after nothing, so that who is left is the last.
    auth.disable(&root, ann.user.id, true, client)
        .await
        .unwrap();
    assert_eq!(code(give(&root, &root, member).await), ErrorCode::Conflict);
    auth.disable(&root, ann.user.id, false, client)
        .await
        .unwrap();
    give(&root, &root, member).await.unwrap();
    let root = auth.user(root.user.id).unwrap().unwrap();
    assert_eq!(root.role, member);
    let unknown = stack_types::UserId::generate(stack_types::Timestamp(1));
    let ann = fixture.caller(&fixture.login("ann", PASSWORD).await.unwrap());
    let refused = auth.set_role(&ann, unknown, member, client).await;
    assert_eq!(code(refused), ErrorCode::NotFound);
}

#[tokio::test]
async fn every_other_session_ends_at_once() {
    let fixture = Fixture::new();
    let mine = fixture.register("ann").await;
    let others = [
        fixture.login("ann", PASSWORD).await.unwrap().session_id,
        fixture.login("ann", PASSWORD).await.unwrap().session_id,
    ];
    let caller = fixture.caller(&mine);
    let auth = &fixture.auth;
    auth.revoke_other_sessions(&caller, &fixture.client)
        .await
        .unwrap();
    let revoked = fixture.revoked();
    assert_eq!(revoked.len(), 2);
    assert!(others.iter().all(|other| revoked.contains(other)));
    fixture.caller(&mine);
    assert_eq!(auth.sessions(&caller).unwrap().len(), 1);
    auth.revoke_other_sessions(&caller, &fixture.client)
        .await
        .unwrap();
    assert_eq!(fixture.revoked.lock().len(), 1, "nobody else was told of");
}
