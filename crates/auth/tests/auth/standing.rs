//! Requests whose caller was looked at before something took their standing away: the write looks again.

use stack_auth::{
    ActsAs, AskForPasskey, AssertPasskey, Delivery, MakeAccount, MakeApiKey, MakeInvite,
    ProfileUpdate, Scope, Tokens,
};
use stack_types::{Clock as _, ErrorCode, GlobalRole};

use crate::authenticator::Authenticator;
use crate::passkeys::{config, made};
use crate::recovery::admin;
use crate::support::{Fixture, PASSWORD, code};
use crate::totp::{app_of, enrolled};

const NEW_PASSWORD: &str = "another horse battery staple";
const BROWSER: Option<&str> = Some("the secret of one browser");

/// The owner changes the password, which ends every other session.
async fn change_password(fixture: &Fixture, owner: &Tokens) {
    let caller = fixture.caller(owner);
    let (old, new) = (Some(PASSWORD.to_owned()), NEW_PASSWORD.to_owned());
    let changed = fixture
        .auth
        .change_password(&caller, old, new, &fixture.client);
    changed.await.unwrap();
}

#[tokio::test]
async fn a_stolen_session_adds_no_way_in_after_a_password_change() {
    let fixture = Fixture::with(config());
    let (auth, client) = (&fixture.auth, &fixture.client);
    let owner = fixture.register("ann").await;
    let stolen = fixture.login("ann", PASSWORD).await.unwrap();
    let thief = fixture.caller(&stolen);
    let mut device = Authenticator::new();
    let begun = auth.begin_passkey(&thief, BROWSER).await.unwrap();
    let answer = made(&begun, device.make(&begun.public_key));
    let secret = auth.enroll_totp(&thief, "Stack").await.unwrap().secret;
    let now = fixture.clock.now().0 / 1000;
    let one_time = app_of(&secret).generate(now).to_string();

    change_password(&fixture, &owner).await;

    let added = auth.add_passkey(&thief, answer, BROWSER, client).await;
    assert_eq!(code(added), ErrorCode::Unauthenticated);
    let confirmed = auth.confirm_totp(&thief, &one_time, client);
    assert_eq!(code(confirmed.await), ErrorCode::Unauthenticated);
    let asked = auth.enroll_totp(&thief, "Stack").await;
    assert_eq!(code(asked.map(|_| ())), ErrorCode::Unauthenticated);
    let renamed = auth.update_profile(
        &thief,
        ProfileUpdate {
            display_name: Some("Mallory".to_owned()),
            settings: None,
        },
    );
    assert_eq!(code(renamed.await), ErrorCode::Unauthenticated);

    // Nothing has changed: the new password alone signs in, and no passkey is there.
    let back = fixture.login("ann", NEW_PASSWORD).await.unwrap();
    assert_eq!(back.user.display_name, "ann");
    assert!(fixture.store.passkeys_of(owner.user.id).unwrap().is_empty());
}

#[tokio::test]
async fn a_stolen_session_takes_no_second_factor_away_after_it_ended() {
    let fixture = Fixture::new();
    let ann = enrolled(&fixture, "ann").await;
    let auth = &fixture.auth;
    auth.logout(&ann.caller, &fixture.client).await.unwrap();
    let codes = auth.new_recovery_codes(&ann.caller, &fixture.client);
    assert_eq!(code(codes.await), ErrorCode::Unauthenticated);
    let password = Some(PASSWORD.to_owned());
    let removed = auth.remove_totp(&ann.caller, password, &fixture.client);
    assert_eq!(code(removed.await), ErrorCode::Unauthenticated);
    assert!(auth.second_factor(&ann.caller).unwrap().enabled);
}

#[tokio::test]
async fn nobody_acts_as_an_admin_after_they_were_one() {
    let fixture = Fixture::new();
    let (auth, client) = (&fixture.auth, &fixture.client);
    let root = admin(&fixture).await;
    let eve = fixture.register("eve").await;
    let mate = fixture.register("mate").await.user.id;
    let role = |user, role| auth.set_role(&root, user, role, client);
    role(eve.user.id, GlobalRole::Admin).await.unwrap();
    let eve = fixture.caller(&eve);
    role(eve.user.id, GlobalRole::Member).await.unwrap();

    let promoted = auth.set_role(&eve, mate, GlobalRole::Admin, client).await;
    assert_eq!(code(promoted), ErrorCode::Forbidden);
    let now = auth.current(&eve).unwrap();
    assert_eq!(code(now.require_admin()), ErrorCode::Forbidden);
    let disabled = auth.disable(&eve, root.user.id, true, client).await;
    assert_eq!(code(disabled), ErrorCode::Forbidden);
    let account = MakeAccount {
        username: "backdoor".to_owned(),
        email: None,
        display_name: None,
        role: Some(GlobalRole::Admin),
    };
    let account = auth.make_account(&eve, account, client).await;
    assert_eq!(code(account), ErrorCode::Forbidden);
    let key = MakeApiKey {
        name: "key".to_owned(),
        scopes: vec![Scope::Admin],
        expires_at: None,
        acts_as: ActsAs::New {
            username: None,
            display_name: None,
        },
    };
    let key = auth.make_api_key(&eve, key, client).await;
    assert_eq!(code(key), ErrorCode::Forbidden);
    let invite = auth.make_invite(&eve, MakeInvite::default(), client).await;
    assert_eq!(code(invite), ErrorCode::Forbidden);
    let link = auth.make_recovery_link(&eve, root.user.id, true, client);
    assert_eq!(code(link.await), ErrorCode::Forbidden);

    let users = fixture.store.list_users(None, 10).await.unwrap();
    assert_eq!(users.len(), 3);
    assert!(fixture.store.list_api_keys().await.unwrap().is_empty());
    assert!(fixture.store.list_invites().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_key_does_nothing_for_an_admin_who_is_none_any_more() {
    let fixture = Fixture::new();
    let (auth, client) = (&fixture.auth, &fixture.client);
    let root = admin(&fixture).await;
    let eve = fixture.register("eve").await;
    auth.set_role(&root, eve.user.id, GlobalRole::Admin, client)
        .await
        .unwrap();
    let make = MakeApiKey {
        name: "key".to_owned(),
        scopes: vec![Scope::Admin],
        expires_at: None,
        acts_as: ActsAs::New {
            username: None,
            display_name: None,
        },
    };
    let made = auth.make_api_key(&fixture.caller(&eve), make, client).await;
    let made = made.unwrap();
    let program = auth.authenticate(&made.key).unwrap();
    let invite = || auth.make_invite(&program, MakeInvite::default(), client);
    invite().await.unwrap();
    auth.set_role(&root, eve.user.id, GlobalRole::Member, client)
        .await
        .unwrap();
    assert_eq!(code(invite().await), ErrorCode::Forbidden);
    auth.revoke_api_key(&root, made.id, client).await.unwrap();
    assert_eq!(code(invite().await), ErrorCode::Unauthenticated);
    assert_eq!(code(auth.current(&program)), ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn who_was_written_down_is_known_again_for_as_long_as_they_stand() {
    let fixture = Fixture::new();
    let auth = &fixture.auth;
    let ann = fixture.register("ann").await;
    let caller = fixture.caller(&ann);
    let kept = auth.keep(&caller).unwrap();
    assert_eq!(auth.kept(&kept).unwrap(), caller);
    let mut changed = kept.clone();
    changed[20] ^= 1;
    assert_eq!(code(auth.kept(&changed)), ErrorCode::Unauthenticated);
    assert_eq!(code(auth.kept(&[])), ErrorCode::Unauthenticated);
    auth.logout(&caller, &fixture.client).await.unwrap();
    assert_eq!(code(auth.kept(&kept)), ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn a_session_that_has_ended_ends_no_others() {
    let fixture = Fixture::new();
    let (auth, client) = (&fixture.auth, &fixture.client);
    let owner = fixture.register("ann").await;
    let stolen = fixture.login("ann", PASSWORD).await.unwrap();
    let thief = fixture.caller(&stolen);
    change_password(&fixture, &owner).await;
    let others = auth.revoke_other_sessions(&thief, client).await;
    assert_eq!(code(others), ErrorCode::Unauthenticated);
    let one = auth.revoke_session(&thief, owner.session_id, client);
    assert_eq!(code(one.await), ErrorCode::Unauthenticated);
    fixture.caller(&owner);
    // Signing out twice is no fault.
    auth.logout(&thief, client).await.unwrap();
}

#[tokio::test]
async fn a_passkey_that_is_removed_takes_its_sessions_with_it() {
    let fixture = Fixture::with(config());
    let (auth, client) = (&fixture.auth, &fixture.client);
    let owner = fixture.register("ann").await;
    let caller = fixture.caller(&owner);
    let mut lost = Authenticator::new();
    let begun = auth.begin_passkey(&caller, BROWSER).await.unwrap();
    let answer = made(&begun, lost.make(&begun.public_key));
    let added = auth.add_passkey(&caller, answer, BROWSER, client).await;
    let begun = auth
        .ask_for_passkey(AskForPasskey::default(), BROWSER, client)
        .await
        .unwrap();
    let answer = AssertPasskey {
        ceremony: None,
        credential: lost.show(&begun.public_key),
    };
    let finder = auth.login_by_passkey(answer, Delivery::Body, BROWSER, client);
    let finder = finder.await.unwrap();

    auth.remove_passkey(&caller, added.unwrap().id, client)
        .await
        .unwrap();
    assert_eq!(fixture.revoked(), [finder.session_id]);
    let refused = auth.authenticate(&finder.access_token);
    assert_eq!(code(refused), ErrorCode::Unauthenticated);
    fixture.caller(&owner);
}
