//! Who may make an account, and by which invitation.

use std::time::Duration;

use stack_auth::{AuthConfig, Caller, MadeInvite, MakeInvite, Register, Registration, Tokens};
use stack_types::{ErrorCode, GlobalRole, Problem, RoomRole};

use crate::support::{Fixture, PASSWORD, code, registration};

/// A server where an invitation is needed, and its admin.
async fn fixture(mode: Registration) -> (Fixture, Caller) {
    let open = Fixture::new();
    open.register("root").await;
    open.auth.promote(&"root".parse().unwrap()).await.unwrap();
    let config = AuthConfig {
        registration: mode,
        throttle: stack_auth::Throttle {
            enabled: false,
            ..stack_auth::Throttle::default()
        },
        ..AuthConfig::insecure_for_tests()
    };
    let fixture = open.again(config);
    let root = fixture.login("root", PASSWORD).await.unwrap();
    let admin = fixture.caller(&root);
    (fixture, admin)
}

async fn invite(fixture: &Fixture, admin: &Caller, make: MakeInvite) -> MadeInvite {
    let made = fixture.auth.make_invite(admin, make, &fixture.client);
    made.await.unwrap()
}

async fn register(fixture: &Fixture, name: &str, invite: Option<&str>) -> Result<Tokens, Problem> {
    let asked = Register {
        invite: invite.map(str::to_owned),
        ..registration(name, PASSWORD)
    };
    fixture.auth.register(asked, &fixture.client).await
}

#[tokio::test]
async fn an_invitation_is_needed_and_says_the_role() {
    let (fixture, admin) = fixture(Registration::Invite).await;
    let refused = register(&fixture, "ann", None).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    assert_eq!(refused.field.as_deref(), Some("invite"));
    let room = "general".parse().unwrap();
    let make = MakeInvite {
        role: Some(GlobalRole::Admin),
        rooms: vec![(room, RoomRole::Moderator)],
        note: Some(" for Ann ".to_owned()),
        ..MakeInvite::default()
    };
    let made = invite(&fixture, &admin, make).await;
    let look = fixture.auth.look_at_invite(&made.text).unwrap();
    assert_eq!(look.invited_by, "root");
    assert_eq!(look.role, GlobalRole::Admin);
    let ann = register(&fixture, "ann", Some(&made.text)).await.unwrap();
    assert_eq!(ann.user.role, GlobalRole::Admin);
    let rooms = fixture.auth.invited_rooms(&made.text).unwrap().unwrap();
    assert_eq!(rooms.0, admin.user.id);
    assert_eq!(rooms.1[0].role, RoomRole::Moderator);
    let used = register(&fixture, "bob", Some(&made.text))
        .await
        .unwrap_err();
    assert_eq!(used.field.as_deref(), Some("invite"));
    let list = fixture.auth.invites(&admin).await.unwrap();
    assert_eq!((list[0].uses, list[0].open), (1, false));
    assert_eq!(list[0].note.as_deref(), Some("for Ann"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_invitation_for_one_makes_one_account_of_fifty() {
    let (fixture, admin) = fixture(Registration::Invite).await;
    let made = invite(&fixture, &admin, MakeInvite::default()).await;
    let mut running = tokio::task::JoinSet::new();
    for number in 0..50 {
        let (auth, client) = (fixture.auth.clone(), fixture.client.clone());
        let asked = Register {
            invite: Some(made.text.clone()),
            ..registration(&format!("user{number}"), PASSWORD)
        };
        running.spawn(async move { auth.register(asked, &client).await.is_ok() });
    }
    let all = running.join_all().await;
    assert_eq!(all.iter().filter(|made| **made).count(), 1);
    assert_eq!(fixture.store.list_users(None, 100).await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_invitation_ends_and_is_withdrawn() {
    let (fixture, admin) = fixture(Registration::Invite).await;
    let short = MakeInvite {
        expires_in_s: Some(60),
        ..MakeInvite::default()
    };
    let short = invite(&fixture, &admin, short).await;
    let other = invite(&fixture, &admin, MakeInvite::default()).await;
    fixture.clock.advance(Duration::from_secs(60));
    let (auth, client) = (&fixture.auth, &fixture.client);
    auth.revoke_invite(&admin, other.invite.id, client)
        .await
        .unwrap();
    let again = auth.revoke_invite(&admin, other.invite.id, client).await;
    assert_eq!(code(again), ErrorCode::NotFound);
    let forged = format!("{}.{}", short.invite.id, "A".repeat(43));
    for text in [&short.text, &other.text, &forged, "", "no.thing"] {
        let refused = register(&fixture, "ann", Some(text)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Forbidden, "{text}");
        assert_eq!(refused.field.as_deref(), Some("invite"));
        assert_eq!(code(auth.look_at_invite(text)), ErrorCode::Forbidden);
    }
    let log = format!("{:?}", fixture.store.list_audit(None, 100).await.unwrap());
    assert!(log.contains("invite_made") && log.contains("invite_revoked"));
    assert!(!log.contains(&other.text));
}

#[tokio::test]
async fn what_an_admin_gave_away_ends_with_their_power() {
    let (fixture, admin) = fixture(Registration::Open).await;
    let eve = register(&fixture, "eve", None).await.unwrap();
    let name = "eve".parse().unwrap();
    fixture.auth.promote(&name).await.unwrap();
    let eve = fixture.caller(&eve);
    let admins = MakeInvite {
        max_uses: Some(9),
        ..MakeInvite::default()
    };
    let made = invite(&fixture, &eve, admins).await;
    let root = admin.user.id;
    let link = fixture
        .auth
        .make_recovery_link(&eve, root, false, &fixture.client);
    let link = link.await.unwrap();
    register(&fixture, "ann", Some(&made.text)).await.unwrap();
    fixture.auth.set_disabled(&name, true).await.unwrap();
    let refused = register(&fixture, "bob", Some(&made.text)).await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
    let refused = fixture.auth.look_at_recovery(&link.token);
    assert_eq!(code(refused), ErrorCode::Gone);
    let audit = fixture.audit().await;
    let used = audit.iter().filter(|entry| *entry == "invite_used ok");
    assert_eq!(used.count(), 1);
}

#[tokio::test]
async fn closed_is_closed_also_with_an_invitation() {
    let (fixture, admin) = fixture(Registration::Closed).await;
    let made = invite(&fixture, &admin, MakeInvite::default()).await;
    let refused = register(&fixture, "ann", Some(&made.text)).await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
}

#[tokio::test]
async fn bad_invitations_are_not_made() {
    let (fixture, admin) = fixture(Registration::Open).await;
    let good = MakeInvite::default;
    let room = || "general".parse().unwrap();
    let cases = [
        (
            "expires_in_s",
            MakeInvite {
                expires_in_s: Some(0),
                ..good()
            },
        ),
        (
            "expires_in_s",
            MakeInvite {
                expires_in_s: Some(u64::MAX),
                ..good()
            },
        ),
        (
            "max_uses",
            MakeInvite {
                max_uses: Some(0),
                ..good()
            },
        ),
        (
            "max_uses",
            MakeInvite {
                max_uses: Some(u32::MAX),
                ..good()
            },
        ),
        (
            "rooms",
            MakeInvite {
                rooms: vec![(room(), RoomRole::Owner)],
                ..good()
            },
        ),
        (
            "rooms",
            MakeInvite {
                rooms: vec![(room(), RoomRole::Member); 33],
                ..good()
            },
        ),
        (
            "note",
            MakeInvite {
                note: Some("x".repeat(201)),
                ..good()
            },
        ),
        (
            "max_uses",
            MakeInvite {
                role: Some(GlobalRole::Admin),
                max_uses: Some(2),
                ..good()
            },
        ),
        (
            "expires_in_s",
            MakeInvite {
                role: Some(GlobalRole::Admin),
                expires_in_s: Some(24 * 60 * 60 + 1),
                ..good()
            },
        ),
    ];
    for (field, make) in cases {
        let refused = fixture
            .auth
            .make_invite(&admin, make, &fixture.client)
            .await;
        assert_eq!(refused.err().unwrap().field.as_deref(), Some(field));
    }
    let member = fixture.caller(&register(&fixture, "ann", None).await.unwrap());
    let refused = fixture
        .auth
        .make_invite(&member, good(), &fixture.client)
        .await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
    // Power over the server is given away by whoever has shown a short while ago who they are.
    fixture.clock.advance(Duration::from_secs(601));
    invite(&fixture, &admin, good()).await;
    let admins = MakeInvite {
        role: Some(GlobalRole::Admin),
        ..good()
    };
    let late = fixture
        .auth
        .make_invite(&admin, admins, &fixture.client)
        .await;
    assert_eq!(late.err().unwrap().field.as_deref(), Some("reauthenticate"));
}
