//! What the operator and programs look after from the machine.

use stack_auth::{ActsAs, AuditQuery, Caller, Keeper, MakeApiKey, Scope};
use stack_storage::AuditAction;
use stack_types::{ErrorCode, Problem};

use crate::recovery::admin;
use crate::support::{Fixture, code};

async fn program(fixture: &Fixture, root: &Caller, scopes: &[Scope]) -> Keeper {
    let make = MakeApiKey {
        name: "keeper".to_owned(),
        scopes: scopes.to_vec(),
        expires_at: None,
        acts_as: ActsAs::New {
            username: None,
            display_name: None,
        },
    };
    let made = fixture.auth.make_api_key(root, make, &fixture.client);
    let key = made.await.unwrap().key;
    Keeper::Program(Box::new(fixture.auth.authenticate(&key).unwrap()))
}

#[tokio::test]
async fn sessions_are_seen_and_ended_one_or_all_and_sockets_hear_of_it() {
    let fixture = Fixture::new();
    let first = fixture.register("ann").await;
    let ann = fixture.caller(&first);
    let second = fixture
        .login("ann", crate::support::PASSWORD)
        .await
        .unwrap();
    let second = fixture.caller(&second);
    let bob = fixture.caller(&fixture.register("bob").await);
    let (auth, operator) = (&fixture.auth, Keeper::Operator);

    let (owner, sessions) = auth.kept_sessions(&operator, "Ann").unwrap();
    let ids: Vec<_> = sessions.iter().map(|session| session.id).collect();
    assert_eq!((owner, ids.len()), (ann.user.id, 2));
    let others = auth
        .revoke_kept(&operator, "ann", Some(bob.session_id))
        .await;
    assert_eq!(code(others), ErrorCode::NotFound);

    let one = auth.revoke_kept(&operator, "ann", Some(second.session_id));
    assert_eq!(one.await.unwrap(), 1);
    assert_eq!(fixture.revoked(), [second.session_id]);
    assert_eq!(code(auth.recheck(&second)), ErrorCode::Unauthenticated);
    let all = auth.revoke_kept(&operator, ann.user.id.as_str(), None);
    assert_eq!(all.await.unwrap(), 1);
    assert_eq!(code(auth.recheck(&ann)), ErrorCode::Unauthenticated);
    assert_eq!(auth.revoke_kept(&operator, "ann", None).await.unwrap(), 0);
    assert!(auth.recheck(&bob).is_ok());
    assert_eq!(
        code(auth.kept_sessions(&operator, "no one")),
        ErrorCode::NotFound
    );

    let (log, _) = auth
        .kept_audit(&operator, AuditQuery::default())
        .await
        .unwrap();
    let by_operator: Vec<_> = log
        .iter()
        .filter(|entry| entry.ip.is_empty())
        .map(|entry| (entry.actor, entry.action.as_str()))
        .collect();
    assert_eq!(
        by_operator,
        [(None, "sessions_revoked"), (None, "session_revoked")]
    );
}

#[tokio::test]
async fn a_program_keeps_as_long_as_its_key_stands_and_is_on_record() {
    let fixture = Fixture::new();
    let root = admin(&fixture).await;
    let keeper = program(&fixture, &root, &[Scope::Admin]).await;
    let reader = program(&fixture, &root, &[Scope::Read]).await;
    let auth = &fixture.auth;
    let Keeper::Program(bot) = &keeper else {
        unreachable!("it is one");
    };

    let refused: Vec<Problem> = vec![
        auth.check_keeper(&reader).unwrap_err(),
        auth.kept_accounts(&reader, None, 10).await.unwrap_err(),
        auth.kept_sessions(&reader, "root").unwrap_err(),
        auth.revoke_kept(&reader, "root", None).await.unwrap_err(),
        auth.kept_audit(&reader, AuditQuery::default())
            .await
            .unwrap_err(),
        auth.record_keeping(&reader, AuditAction::SnapshotMade, None)
            .await
            .unwrap_err(),
        keeper.require_operator().unwrap_err(),
    ];
    assert!(
        refused
            .iter()
            .all(|problem| problem.code == ErrorCode::Forbidden)
    );
    assert!(auth.recheck(&root).is_ok(), "nothing was revoked");
    assert!(Keeper::Operator.require_operator().is_ok());

    auth.revoke_kept(&keeper, "root", None).await.unwrap();
    let newest = AuditQuery {
        limit: Some(1),
        ..AuditQuery::default()
    };
    let (log, _) = auth.kept_audit(&keeper, newest).await.unwrap();
    assert_eq!(log[0].actor, Some(bot.user.id));
    assert_eq!(log[0].session, Some(bot.session_id));
    assert_eq!(log[0].action, "sessions_revoked");

    let stack_auth::Credential::ApiKey { id, .. } = bot.credential else {
        unreachable!("it is a key");
    };
    let root = fixture
        .login("root", crate::support::PASSWORD)
        .await
        .unwrap();
    let root = fixture.caller(&root);
    auth.revoke_api_key(&root, id, &fixture.client)
        .await
        .unwrap();
    assert_eq!(code(auth.check_keeper(&keeper)), ErrorCode::Unauthenticated);
    let late = auth.revoke_kept(&keeper, "root", None).await;
    assert_eq!(code(late), ErrorCode::Unauthenticated);
    assert!(auth.recheck(&root).is_ok());
}

#[tokio::test]
async fn a_name_that_is_anothers_id_is_not_taken_for_either() {
    let fixture = Fixture::new();
    let root = admin(&fixture).await;
    let backend = program(&fixture, &root, &[Scope::ChatToken]).await;
    let Keeper::Program(backend) = backend else {
        unreachable!("it is one");
    };
    let ann = fixture.caller(&fixture.register("ann").await).user.id;
    let outside = fixture
        .auth
        .vouched_user(&backend, "ann".parse().unwrap(), None, &fixture.client)
        .await
        .unwrap();
    assert_ne!(outside.id, ann);
    let found = |who: &str| fixture.auth.kept_account(&Keeper::Operator, who);
    assert_eq!(code(found("ann")), ErrorCode::Conflict);
    assert_eq!(found("name:ann").unwrap().user.id, ann);
    assert_eq!(found("id:ann").unwrap().user.id, outside.id);
    assert_eq!(found(ann.as_str()).unwrap().user.id, ann);
}
