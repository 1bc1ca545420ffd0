//! Passkeys, with an authenticator in software.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use stack_auth::{
    AskForPasskey, AssertPasskey, AuthConfig, Begun, Delivery, MakeInvite, NewPasskeyAnswer,
    PasskeyConfig, Registration, SetupPerson, SignUpByPasskey, Tokens,
};
use stack_types::{ErrorCode, Problem};

use crate::authenticator::{Authenticator, ORIGIN};
use crate::support::{Fixture, code};

const BROWSER: Option<&str> = Some("the secret of one browser");
const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn config() -> AuthConfig {
    AuthConfig {
        passkeys: Some(PasskeyConfig {
            origin: ORIGIN.to_owned(),
            site_name: "Stack".to_owned(),
        }),
        ..AuthConfig::insecure_for_tests()
    }
}

fn fixture() -> Fixture {
    Fixture::with(config())
}

pub(crate) fn made(begun: &Begun, credential: Value) -> NewPasskeyAnswer {
    NewPasskeyAnswer {
        ceremony: Some(begun.ceremony.clone()),
        name: None,
        credential,
    }
}

fn shown(begun: &Begun, credential: Value) -> AssertPasskey {
    AssertPasskey {
        ceremony: Some(begun.ceremony.clone()),
        credential,
    }
}

/// An answer that alone tells which ceremony it is to.
pub(crate) fn bare_made(credential: Value) -> NewPasskeyAnswer {
    NewPasskeyAnswer {
        ceremony: None,
        name: None,
        credential,
    }
}

fn bare_shown(credential: Value) -> AssertPasskey {
    AssertPasskey {
        ceremony: None,
        credential,
    }
}

fn named(username: &str) -> SignUpByPasskey {
    SignUpByPasskey {
        username: username.to_owned(),
        ..SignUpByPasskey::default()
    }
}

/// What the tests say often.
trait Passkeys {
    async fn sign_up(&self, username: &str, device: &mut Authenticator) -> Result<Tokens, Problem>;
    async fn ask(&self, login: Option<&str>) -> Begun;
    async fn finish(&self, answer: AssertPasskey) -> Result<Tokens, Problem>;
    async fn sign_in(&self, device: &mut Authenticator) -> Result<Tokens, Problem>;
    async fn add(&self, tokens: &Tokens, device: &mut Authenticator) -> Result<(), Problem>;
    fn stored(&self, device: &Authenticator) -> stack_storage::Passkey;
}

impl Passkeys for Fixture {
    async fn sign_up(&self, username: &str, device: &mut Authenticator) -> Result<Tokens, Problem> {
        let begun = self
            .auth
            .begin_sign_up(named(username), BROWSER, &self.client)
            .await?;
        let answer = made(&begun, device.make(&begun.public_key));
        let signed_up = self
            .auth
            .sign_up(answer, Delivery::Body, BROWSER, &self.client)
            .await?;
        Ok(signed_up.tokens)
    }

    async fn ask(&self, login: Option<&str>) -> Begun {
        let asked = AskForPasskey {
            login: login.map(str::to_owned),
            conditional: false,
        };
        self.auth
            .ask_for_passkey(asked, BROWSER, &self.client)
            .await
            .unwrap()
    }

    async fn finish(&self, answer: AssertPasskey) -> Result<Tokens, Problem> {
        self.auth
            .login_by_passkey(answer, Delivery::Body, BROWSER, &self.client)
            .await
    }

    async fn sign_in(&self, device: &mut Authenticator) -> Result<Tokens, Problem> {
        let begun = self.ask(None).await;
        self.finish(shown(&begun, device.show(&begun.public_key)))
            .await
    }

    async fn add(&self, tokens: &Tokens, device: &mut Authenticator) -> Result<(), Problem> {
        let caller = self.caller(tokens);
        let begun = self.auth.begin_passkey(&caller, BROWSER).await?;
        let answer = made(&begun, device.make(&begun.public_key));
        self.auth
            .add_passkey(&caller, answer, BROWSER, &self.client)
            .await
            .map(|_| ())
    }

    fn stored(&self, device: &Authenticator) -> stack_storage::Passkey {
        self.store.passkey(&device.credential_id).unwrap().unwrap()
    }
}

#[tokio::test]
async fn somebody_signs_up_and_in_with_a_passkey_only() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    let tokens = fixture.sign_up("Ann", &mut device).await.unwrap();
    assert_eq!(tokens.user.username.as_str(), "ann");
    let caller = fixture.caller(&tokens);
    let listed = fixture.auth.passkeys(&caller).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].name.as_str(), listed[0].last_used_at),
        ("test/1.0", None)
    );

    fixture.auth.logout(&caller, &fixture.client).await.unwrap();
    let again = fixture.sign_in(&mut device).await.unwrap();
    assert_eq!(again.user.id, tokens.user.id);
    // By name, without the authenticator saying whose it is.
    device.tells_handle = false;
    let begun = fixture.ask(Some("ANN")).await;
    assert_eq!(
        begun.public_key["allowCredentials"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let answer = shown(&begun, device.show(&begun.public_key));
    assert_eq!(
        fixture.finish(answer).await.unwrap().user.id,
        tokens.user.id
    );
    // Without a name it must say so.
    assert_eq!(
        code(fixture.sign_in(&mut device).await),
        ErrorCode::InvalidCredentials
    );
    assert!(fixture.stored(&device).last_used_at.is_some());
    assert!(fixture.audit().await.contains(&"register ok".to_owned()));
}

/// † Tuwunel #318, #331.
#[tokio::test]
async fn the_first_user_is_no_admin() {
    let fixture = fixture();
    let tokens = fixture.sign_up("ann", &mut Authenticator::new()).await;
    assert_eq!(tokens.unwrap().user.role, stack_types::GlobalRole::Member);
    let tokens = fixture.register("bob").await;
    assert_eq!(tokens.user.role, stack_types::GlobalRole::Member);
}

#[tokio::test]
async fn several_passkeys_are_added_named_and_removed() {
    let fixture = fixture();
    let (mut first, mut second) = (Authenticator::new(), Authenticator::new());
    let tokens = fixture.sign_up("ann", &mut first).await.unwrap();
    // They are listed in the order of their time.
    fixture.clock.advance(Duration::from_millis(1));
    fixture.add(&tokens, &mut second).await.unwrap();
    let (auth, client) = (&fixture.auth, &fixture.client);
    let caller = fixture.caller(&tokens);
    let ids: Vec<_> = auth
        .passkeys(&caller)
        .unwrap()
        .iter()
        .map(|passkey| passkey.id)
        .collect();
    assert_eq!(ids.len(), 2);
    let renamed = auth
        .rename_passkey(&caller, ids[1], " Key ring ", client)
        .await;
    assert_eq!(renamed.unwrap().name, "Key ring");
    let refused = auth
        .rename_passkey(&caller, ids[1], "\n", client)
        .await
        .unwrap_err();
    assert_eq!(refused.field.as_deref(), Some("name"));

    auth.remove_passkey(&caller, ids[0], client).await.unwrap();
    assert_eq!(
        code(fixture.sign_in(&mut first).await),
        ErrorCode::InvalidCredentials
    );
    fixture.sign_in(&mut second).await.unwrap();
    assert_eq!(
        code(auth.remove_passkey(&caller, ids[0], client).await),
        ErrorCode::NotFound
    );
    // Nobody else's can be touched.
    let other = fixture.caller(&fixture.register("bob").await);
    assert_eq!(
        code(auth.remove_passkey(&other, ids[1], client).await),
        ErrorCode::NotFound
    );
    let audit = fixture.audit().await;
    for entry in [
        "passkey_added ok",
        "passkey_renamed ok",
        "passkey_removed ok",
        "login refused",
    ] {
        assert!(audit.contains(&entry.to_owned()), "{entry}: {audit:?}");
    }
}

#[tokio::test]
async fn the_last_way_in_stays() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    let tokens = fixture.sign_up("ann", &mut device).await.unwrap();
    let caller = fixture.caller(&tokens);
    let id = fixture.auth.passkeys(&caller).unwrap()[0].id;
    let removed = fixture.auth.remove_passkey(&caller, id, &fixture.client);
    assert_eq!(code(removed.await), ErrorCode::Conflict);
    fixture.sign_in(&mut device).await.unwrap();
}

#[tokio::test]
async fn an_old_sign_in_adds_no_passkey() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    let tokens = fixture.sign_up("ann", &mut device).await.unwrap();
    let (auth, client) = (&fixture.auth, &fixture.client);
    let begun = auth
        .begin_passkey(&fixture.caller(&tokens), BROWSER)
        .await
        .unwrap();
    let mut second = Authenticator::new();
    let answer = made(&begun, second.make(&begun.public_key));
    fixture.clock.advance(9 * MINUTE);
    let tokens = fixture.refresh(&tokens.refresh_token).await.unwrap();
    fixture.clock.advance(2 * MINUTE);

    let caller = fixture.caller(&tokens);
    let id = auth.passkeys(&caller).unwrap()[0].id;
    for refused in [
        auth.begin_passkey(&caller, BROWSER).await.err(),
        auth.add_passkey(&caller, answer, BROWSER, client)
            .await
            .err(),
        auth.rename_passkey(&caller, id, "x", client).await.err(),
        auth.remove_passkey(&caller, id, client).await.err(),
    ] {
        let refused = refused.unwrap();
        assert_eq!(refused.code, ErrorCode::Forbidden);
        assert_eq!(refused.field.as_deref(), Some("reauthenticate"));
    }
    let begun = auth.ask_again_for_passkey(&caller, BROWSER).await.unwrap();
    let answer = shown(&begun, device.show(&begun.public_key));
    auth.reauthenticate_by_passkey(&caller, answer, BROWSER, client)
        .await
        .unwrap();
    fixture.add(&tokens, &mut second).await.unwrap();
}

#[tokio::test]
async fn a_ceremony_is_consumed_before_it_is_verified() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    fixture.sign_up("ann", &mut device).await.unwrap();
    let begun = fixture.ask(None).await;
    let right = device.show(&begun.public_key);
    let mut wrong = right.clone();
    wrong["response"]["signature"] = json!("AAAA");
    assert_eq!(
        code(fixture.finish(shown(&begun, wrong)).await),
        ErrorCode::InvalidCredentials
    );
    // The right answer comes too late: the question was used up.
    assert_eq!(
        code(fixture.finish(shown(&begun, right)).await),
        ErrorCode::InvalidCredentials
    );

    let begin = fixture
        .auth
        .begin_sign_up(named("bob"), BROWSER, &fixture.client);
    let begun = begin.await.unwrap();
    let finish = |credential| {
        let answer = made(&begun, credential);
        fixture
            .auth
            .sign_up(answer, Delivery::Body, BROWSER, &fixture.client)
    };
    let right = Authenticator::new().make(&begun.public_key);
    let refused = finish(json!({})).await.err().unwrap();
    assert_eq!(refused.field.as_deref(), Some("credential"));
    let refused = finish(right).await.err().unwrap();
    assert_eq!(refused.field.as_deref(), Some("ceremony"));
}

#[tokio::test]
async fn an_answer_tells_by_itself_which_ceremony_it_is_to() {
    let fixture = fixture();
    let (auth, client) = (&fixture.auth, &fixture.client);
    let mut device = Authenticator::new();
    let begin = || auth.begin_sign_up(named("ann"), BROWSER, client);
    // Another that is open meanwhile is not taken for it.
    let (begun, other) = (begin().await.unwrap(), begin().await.unwrap());
    assert_eq!(begun.public_key["challenge"], json!(begun.ceremony));
    assert_ne!(begun.ceremony, other.ceremony);
    let answer = bare_made(device.make(&begun.public_key));
    let again = answer.clone();
    let sign_up = |answer| auth.sign_up(answer, Delivery::Body, BROWSER, client);
    let tokens = sign_up(answer).await.ok().unwrap().tokens;
    let refused = sign_up(again).await.err().unwrap();
    assert_eq!(refused.field.as_deref(), Some("ceremony"));

    let caller = fixture.caller(&tokens);
    let begun = auth.begin_passkey(&caller, BROWSER).await.unwrap();
    let answer = bare_made(Authenticator::new().make(&begun.public_key));
    auth.add_passkey(&caller, answer, BROWSER, client)
        .await
        .unwrap();

    let begun = auth.ask_again_for_passkey(&caller, BROWSER).await.unwrap();
    let answer = bare_shown(device.show(&begun.public_key));
    auth.reauthenticate_by_passkey(&caller, answer, BROWSER, client)
        .await
        .unwrap();

    let begun = fixture.ask(None).await;
    let answer = bare_shown(device.show(&begun.public_key));
    let again = answer.clone();
    fixture.finish(answer).await.unwrap();
    assert_eq!(
        code(fixture.finish(again).await),
        ErrorCode::InvalidCredentials
    );
}

#[tokio::test]
async fn an_answer_without_a_ceremony_is_bound_like_any_other() {
    let fixture = fixture();
    let (auth, client) = (&fixture.auth, &fixture.client);
    let mut device = Authenticator::new();
    let tokens = fixture.sign_up("ann", &mut device).await.unwrap();
    let caller = fixture.caller(&tokens);
    for other in [None, Some("another browser")] {
        let begun = fixture.ask(None).await;
        let answer = bare_shown(device.show(&begun.public_key));
        let login = auth.login_by_passkey(answer.clone(), Delivery::Body, other, client);
        assert_eq!(code(login.await), ErrorCode::InvalidCredentials);
        // It was used up by that.
        assert_eq!(
            code(fixture.finish(answer).await),
            ErrorCode::InvalidCredentials
        );
        let begun = auth.begin_passkey(&caller, BROWSER).await.unwrap();
        let answer = bare_made(Authenticator::new().make(&begun.public_key));
        let added = auth.add_passkey(&caller, answer, other, client).await;
        assert_eq!(added.unwrap_err().field.as_deref(), Some("ceremony"));
    }
    // Of another purpose.
    let begun = auth.ask_again_for_passkey(&caller, BROWSER).await.unwrap();
    let answer = bare_shown(device.show(&begun.public_key));
    assert_eq!(
        code(fixture.finish(answer).await),
        ErrorCode::InvalidCredentials
    );
    let begun = auth.begin_passkey(&caller, BROWSER).await.unwrap();
    let answer = bare_made(Authenticator::new().make(&begun.public_key));
    let signed_up = auth.sign_up(answer, Delivery::Body, BROWSER, client).await;
    assert_eq!(signed_up.err().unwrap().field.as_deref(), Some("ceremony"));
    // Too late.
    let begun = fixture.ask(None).await;
    let answer = bare_shown(device.show(&begun.public_key));
    fixture.clock.advance(5 * MINUTE);
    assert_eq!(
        code(fixture.finish(answer).await),
        ErrorCode::InvalidCredentials
    );
}

#[tokio::test]
async fn a_ceremony_that_is_named_is_the_one_that_is_used_up() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    fixture.sign_up("ann", &mut device).await.unwrap();
    let (one, other) = (fixture.ask(None).await, fixture.ask(None).await);
    let answer = device.show(&one.public_key);
    // The answer is to one question, and the other is named.
    assert_eq!(
        code(fixture.finish(shown(&other, answer.clone())).await),
        ErrorCode::InvalidCredentials
    );
    fixture.finish(bare_shown(answer)).await.unwrap();
    let late = device.show(&other.public_key);
    assert_eq!(
        code(fixture.finish(bare_shown(late)).await),
        ErrorCode::InvalidCredentials
    );
}

#[tokio::test]
async fn a_ceremony_ends() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    fixture.sign_up("ann", &mut device).await.unwrap();
    let begun = fixture.ask(None).await;
    let answer = shown(&begun, device.show(&begun.public_key));
    fixture.clock.advance(5 * MINUTE);
    assert_eq!(
        code(fixture.finish(answer).await),
        ErrorCode::InvalidCredentials
    );
}

#[tokio::test]
async fn a_ceremony_of_another_browser_is_refused() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    let tokens = fixture.sign_up("ann", &mut device).await.unwrap();
    let (auth, client) = (&fixture.auth, &fixture.client);
    for other in [None, Some("another browser")] {
        let begun = fixture.ask(None).await;
        let answer = shown(&begun, device.show(&begun.public_key));
        let login = auth.login_by_passkey(answer, Delivery::Body, other, client);
        assert_eq!(code(login.await), ErrorCode::InvalidCredentials);

        let caller = fixture.caller(&tokens);
        let begun = auth.begin_passkey(&caller, BROWSER).await.unwrap();
        let answer = made(&begun, Authenticator::new().make(&begun.public_key));
        let added = auth.add_passkey(&caller, answer, other, client).await;
        assert_eq!(added.unwrap_err().field.as_deref(), Some("ceremony"));
    }
}

#[tokio::test]
async fn a_ceremony_of_another_purpose_is_refused() {
    let fixture = fixture();
    let (mut ann, mut bob) = (Authenticator::new(), Authenticator::new());
    let tokens = fixture.sign_up("ann", &mut ann).await.unwrap();
    let others = fixture.sign_up("bob", &mut bob).await.unwrap();
    let (auth, client) = (&fixture.auth, &fixture.client);
    let (caller, other) = (fixture.caller(&tokens), fixture.caller(&others));

    // To show again who one is, for signing in; and the other way round.
    let begun = auth.ask_again_for_passkey(&caller, BROWSER).await.unwrap();
    let answer = shown(&begun, ann.show(&begun.public_key));
    assert_eq!(
        code(fixture.finish(answer).await),
        ErrorCode::InvalidCredentials
    );
    let begun = fixture.ask(None).await;
    let answer = shown(&begun, ann.show(&begun.public_key));
    let again = auth.reauthenticate_by_passkey(&caller, answer, BROWSER, client);
    assert_eq!(code(again.await), ErrorCode::InvalidCredentials);
    // Somebody else's.
    let begun = auth.ask_again_for_passkey(&caller, BROWSER).await.unwrap();
    let answer = shown(&begun, bob.show(&begun.public_key));
    let again = auth.reauthenticate_by_passkey(&other, answer, BROWSER, client);
    assert_eq!(code(again.await), ErrorCode::InvalidCredentials);
    // A passkey for an account is no account, and no other account's.
    for who in [None, Some(&other)] {
        let begun = auth.begin_passkey(&caller, BROWSER).await.unwrap();
        let answer = made(&begun, Authenticator::new().make(&begun.public_key));
        let refused = match who {
            None => auth
                .sign_up(answer, Delivery::Body, BROWSER, client)
                .await
                .err(),
            Some(other) => auth.add_passkey(other, answer, BROWSER, client).await.err(),
        };
        assert_eq!(refused.unwrap().field.as_deref(), Some("ceremony"));
    }
    // A question for a new passkey is none for an old one.
    let begun = auth.begin_passkey(&caller, BROWSER).await.unwrap();
    let mut options = begun.public_key.clone();
    options["rpId"] = json!("chat.example");
    let answer = shown(&begun, ann.show(&options));
    assert_eq!(
        code(fixture.finish(answer).await),
        ErrorCode::InvalidCredentials
    );
}

#[tokio::test]
async fn user_verification_is_required() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    device.verifies = false;
    let refused = fixture.sign_up("ann", &mut device).await.unwrap_err();
    assert_eq!(refused.field.as_deref(), Some("credential"));
    device.verifies = true;
    fixture.sign_up("ann", &mut device).await.unwrap();
    device.verifies = false;
    assert_eq!(
        code(fixture.sign_in(&mut device).await),
        ErrorCode::InvalidCredentials
    );
}

#[tokio::test]
async fn an_answer_from_another_origin_is_refused() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    fixture.sign_up("ann", &mut device).await.unwrap();
    for origin in [
        "https://chat.example.evil.example",
        "http://chat.example",
        "https://chat.example:8443",
    ] {
        device.origin = origin.to_owned();
        assert_eq!(
            code(fixture.sign_in(&mut device).await),
            ErrorCode::InvalidCredentials,
            "{origin}"
        );
    }
}

#[tokio::test]
async fn credential_ids_are_unique_across_users() {
    let fixture = fixture();
    let (mut ann, mut copy) = (Authenticator::new(), Authenticator::new());
    fixture.sign_up("ann", &mut ann).await.unwrap();
    copy.credential_id = ann.credential_id.clone();
    assert_eq!(
        code(fixture.sign_up("bob", &mut copy).await),
        ErrorCode::Conflict
    );
    let tokens = fixture.register("bob").await;
    assert_eq!(
        code(fixture.add(&tokens, &mut copy).await),
        ErrorCode::Conflict
    );
    fixture.sign_in(&mut ann).await.unwrap();
}

#[tokio::test]
async fn a_passkey_stands_for_its_owner_alone() {
    let fixture = fixture();
    let (mut ann, mut bob) = (Authenticator::new(), Authenticator::new());
    fixture.sign_up("ann", &mut ann).await.unwrap();
    fixture.sign_up("bob", &mut bob).await.unwrap();
    // Bob's passkey for Ann's name.
    let begun = fixture.ask(Some("ann")).await;
    let answer = shown(&begun, bob.show(&begun.public_key));
    assert_eq!(
        code(fixture.finish(answer).await),
        ErrorCode::InvalidCredentials
    );
    // Bob's passkey that says it is Ann's.
    let begun = fixture.ask(None).await;
    let anns = ann.show(&begun.public_key)["response"]["userHandle"].clone();
    let mut answer = bob.show(&begun.public_key);
    answer["response"]["userHandle"] = anns;
    assert_eq!(
        code(fixture.finish(shown(&begun, answer)).await),
        ErrorCode::InvalidCredentials
    );
}

#[tokio::test]
async fn unknown_names_get_decoys_that_look_real_and_sign_nobody_in() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    fixture.sign_up("ann", &mut device).await.unwrap();
    fixture.register("bob").await;
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let real = fixture.ask(Some("ann")).await.public_key;
    // Nobody, somebody without a passkey, and what can be no name.
    for login in ["nobody", "nobody@example.org", "bob", "\u{0}", ""] {
        let decoys = fixture.ask(Some(login)).await.public_key;
        assert_eq!(keys(&decoys), keys(&real), "{login}");
        let (decoys, real) = (&decoys["allowCredentials"], &real["allowCredentials"]);
        assert!(!decoys.as_array().unwrap().is_empty(), "{login}");
        assert_eq!(keys(&decoys[0]), keys(&real[0]));
        assert_eq!(
            &fixture.ask(Some(login)).await.public_key["allowCredentials"],
            decoys
        );
    }
    assert_eq!(
        fixture.ask(Some(" NOBODY ")).await.public_key["allowCredentials"],
        fixture.ask(Some("nobody")).await.public_key["allowCredentials"]
    );
    let begun = fixture.ask(Some("bob")).await;
    let answer = shown(&begun, device.show(&begun.public_key));
    assert_eq!(
        code(fixture.finish(answer).await),
        ErrorCode::InvalidCredentials
    );
}

/// Made-up lists have three at most, so that four would be a proof.
#[tokio::test]
async fn a_list_is_never_longer_than_a_made_up_one() {
    let fixture = fixture();
    let mut devices: Vec<_> = (0..5).map(|_| Authenticator::new()).collect();
    let tokens = fixture.sign_up("ann", &mut devices[0]).await.unwrap();
    for device in &mut devices[1..] {
        fixture.clock.advance(Duration::from_millis(1));
        fixture.add(&tokens, device).await.unwrap();
    }
    let begun = fixture.ask(Some("ann")).await;
    let listed: Vec<_> = begun.public_key["allowCredentials"]
        .as_array()
        .unwrap()
        .iter()
        .map(|listed| listed["id"].clone())
        .collect();
    let newest: Vec<_> = devices[2..]
        .iter_mut()
        .map(|device| device.show(&begun.public_key)["id"].clone())
        .collect();
    assert_eq!(listed, newest);
    // Those that are not listed sign in without a name.
    fixture.sign_in(&mut devices[0]).await.unwrap();
    let mut longest = 0;
    for number in 0..40 {
        let made_up = fixture.ask(Some(&format!("nobody{number}"))).await;
        let made_up = made_up.public_key["allowCredentials"].as_array().cloned();
        longest = longest.max(made_up.unwrap().len());
    }
    assert_eq!(longest, listed.len());
}

#[tokio::test]
async fn an_address_lists_nothing_of_its_account() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    let mut asked = named("ann");
    asked.email = Some("ann@example.org".to_owned());
    let begun = fixture.auth.begin_sign_up(asked, BROWSER, &fixture.client);
    let begun = begun.await.unwrap();
    let answer = made(&begun, device.make(&begun.public_key));
    let signed_up = fixture
        .auth
        .sign_up(answer, Delivery::Body, BROWSER, &fixture.client);
    signed_up.await.unwrap();
    let by_name = fixture.ask(Some("ann")).await.public_key;
    let by_address = fixture.ask(Some("ann@example.org")).await.public_key;
    let (real, made_up) = (
        &by_name["allowCredentials"],
        &by_address["allowCredentials"],
    );
    assert!(!made_up.as_array().unwrap().is_empty());
    for id in made_up.as_array().unwrap() {
        assert_ne!(id["id"], real[0]["id"]);
    }
}

#[tokio::test]
async fn the_button_flow_has_no_mediation() {
    let fixture = fixture();
    let begun = fixture.ask(None).await;
    assert_eq!(begun.mediation, None);
    assert_eq!(serde_json::to_value(&begun).unwrap().get("mediation"), None);
    assert_eq!(begun.public_key.get("mediation"), None);
    let asked = AskForPasskey {
        login: Some("ann".to_owned()),
        conditional: true,
    };
    let begun = fixture
        .auth
        .ask_for_passkey(asked, BROWSER, &fixture.client)
        .await
        .unwrap();
    assert_eq!(begun.mediation, Some("conditional"));
    assert_eq!(begun.public_key["allowCredentials"], json!([]));
}

#[tokio::test]
async fn a_counter_that_goes_back_is_caught() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    let tokens = fixture.sign_up("ann", &mut device).await.unwrap();
    fixture.sign_in(&mut device).await.unwrap();
    device.counter = 1;
    assert_eq!(
        code(fixture.sign_in(&mut device).await),
        ErrorCode::InvalidCredentials
    );

    // Its owner is out everywhere, sees why, and the passkey signs nobody in any more.
    assert_eq!(
        code(fixture.auth.authenticate(&tokens.access_token)),
        ErrorCode::Unauthenticated
    );
    assert!(fixture.revoked().contains(&tokens.session_id));
    assert!(fixture.stored(&device).suspended_at.is_some());
    device.counter = 100;
    assert_eq!(
        code(fixture.sign_in(&mut device).await),
        ErrorCode::InvalidCredentials
    );
    let real = fixture.ask(Some("ann")).await.public_key;
    let listed = real["allowCredentials"].as_array().unwrap();
    let id = serde_json::to_value(device.show(&real)).unwrap()["id"].clone();
    assert!(listed.iter().all(|listed| listed["id"] != id));
    assert!(
        fixture
            .audit()
            .await
            .contains(&"passkey_compromised refused".to_owned())
    );
}

#[tokio::test]
async fn nobody_suspends_a_passkey_without_having_it() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    fixture.sign_up("ann", &mut device).await.unwrap();
    // An old counter under a signature that is not the passkey's.
    let mut forger = Authenticator::new();
    forger.credential_id = device.credential_id.clone();
    forger.tells_handle = false;
    forger.counter = 0;
    let begun = fixture.ask(Some("ann")).await;
    let answer = shown(&begun, forger.show(&begun.public_key));
    assert_eq!(
        code(fixture.finish(answer).await),
        ErrorCode::InvalidCredentials
    );
    fixture.sign_in(&mut device).await.unwrap();
}

#[tokio::test]
async fn of_two_answers_with_one_counter_a_single_one_signs_in() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    fixture.sign_up("ann", &mut device).await.unwrap();
    let mut answers = Vec::new();
    device.counter = 7;
    for _ in 0..8 {
        let begun = fixture.ask(None).await;
        answers.push(shown(&begun, device.show(&begun.public_key)));
        device.counter = 7;
    }
    let mut set = tokio::task::JoinSet::new();
    for answer in answers {
        let (auth, client) = (fixture.auth.clone(), fixture.client.clone());
        set.spawn(async move {
            let login = auth.login_by_passkey(answer, Delivery::Body, BROWSER, &client);
            login.await.is_ok()
        });
    }
    let right = set.join_all().await.into_iter().filter(|ok| *ok).count();
    assert_eq!(right, 1);
}

#[tokio::test]
async fn a_passkey_without_a_counter_signs_in_as_often_as_it_likes() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    device.counter = 0;
    fixture.sign_up("ann", &mut device).await.unwrap();
    for _ in 0..3 {
        fixture.sign_in(&mut device).await.unwrap();
    }
}

#[tokio::test]
async fn backup_flags_are_kept() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    device.backup_eligible = true;
    let tokens = fixture.sign_up("ann", &mut device).await.unwrap();
    let caller = fixture.caller(&tokens);
    let backed_up = || fixture.auth.passkeys(&caller).unwrap()[0].backed_up;
    assert!(!backed_up());
    device.backed_up = true;
    fixture.sign_in(&mut device).await.unwrap();
    assert!(backed_up());
    device.backed_up = false;
    fixture.sign_in(&mut device).await.unwrap();
    assert!(!backed_up());
    // What could not be copied at first must not become so.
    let mut fixed = Authenticator::new();
    fixture.sign_up("bob", &mut fixed).await.unwrap();
    fixed.backup_eligible = true;
    assert_eq!(
        code(fixture.sign_in(&mut fixed).await),
        ErrorCode::InvalidCredentials
    );
}

#[tokio::test]
async fn passkeys_are_no_weapon_against_their_owner() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    fixture.sign_up("ann", &mut device).await.unwrap();
    for _ in 0..20 {
        let _ = fixture.login("ann", "a password she has not").await;
        let begun = fixture.ask(Some("ann")).await;
        let _ = fixture.finish(shown(&begun, json!({}))).await;
    }
    fixture.sign_in(&mut device).await.unwrap();
}

#[tokio::test]
async fn a_disabled_account_has_no_way_in() {
    let fixture = fixture();
    let mut device = Authenticator::new();
    let tokens = fixture.sign_up("ann", &mut device).await.unwrap();
    let begun = fixture.ask(None).await;
    let early = shown(&begun, device.show(&begun.public_key));
    fixture
        .auth
        .set_disabled(&tokens.user.username, true)
        .await
        .unwrap();
    assert_eq!(
        code(fixture.finish(early).await),
        ErrorCode::InvalidCredentials
    );
    assert_eq!(
        code(fixture.sign_in(&mut device).await),
        ErrorCode::InvalidCredentials
    );
}

#[tokio::test]
async fn an_account_has_twenty_passkeys_at_most() {
    let fixture = fixture();
    let tokens = fixture
        .sign_up("ann", &mut Authenticator::new())
        .await
        .unwrap();
    let caller = fixture.caller(&tokens);
    let begun = fixture.auth.begin_passkey(&caller, BROWSER).await.unwrap();
    let late = made(&begun, Authenticator::new().make(&begun.public_key));
    for _ in 1..20 {
        fixture
            .add(&tokens, &mut Authenticator::new())
            .await
            .unwrap();
    }
    // Told before one is made, and decided when it is added.
    let begun = fixture.auth.begin_passkey(&caller, BROWSER).await;
    assert_eq!(code(begun), ErrorCode::LimitExceeded);
    let added = fixture
        .auth
        .add_passkey(&caller, late, BROWSER, &fixture.client)
        .await;
    assert_eq!(code(added), ErrorCode::LimitExceeded);
}

#[tokio::test]
async fn who_may_register_holds_for_passkeys_too() {
    let closed = Fixture::with(AuthConfig {
        registration: Registration::Closed,
        ..config()
    });
    let refused = closed.sign_up("ann", &mut Authenticator::new()).await;
    assert_eq!(code(refused), ErrorCode::Forbidden);

    let fixture = Fixture::with(AuthConfig {
        registration: Registration::Invite,
        ..config()
    });
    let (auth, client) = (&fixture.auth, &fixture.client);
    let refused = fixture
        .sign_up("ann", &mut Authenticator::new())
        .await
        .unwrap_err();
    assert_eq!(refused.field.as_deref(), Some("invite"));
    let token = auth.setup_token().await.unwrap().unwrap().token;
    let first = SetupPerson {
        token,
        username: "root".to_owned(),
        email: None,
        display_name: None,
    };
    let begun = auth.begin_setup(first, BROWSER).await.unwrap();
    let answer = made(&begun, Authenticator::new().make(&begun.public_key));
    let admin = auth
        .set_up_by_passkey(answer, Delivery::Body, BROWSER, client)
        .await
        .unwrap();
    let admin = fixture.caller(&admin);
    let invite = auth
        .make_invite(&admin, MakeInvite::default(), client)
        .await
        .unwrap();

    // Two who were shown the same invitation, which is for one.
    let mut answers = Vec::new();
    for username in ["ann", "bob"] {
        let asked = SignUpByPasskey {
            invite: Some(invite.text.clone()),
            ..named(username)
        };
        let begun = auth.begin_sign_up(asked, BROWSER, client).await.unwrap();
        answers.push(made(&begun, Authenticator::new().make(&begun.public_key)));
    }
    let late = answers.pop().unwrap();
    let in_time = auth
        .sign_up(answers.remove(0), Delivery::Body, BROWSER, client)
        .await;
    assert_eq!(in_time.ok().unwrap().invite, Some(invite.text));
    let late = auth.sign_up(late, Delivery::Body, BROWSER, client).await;
    assert_eq!(late.err().unwrap().field.as_deref(), Some("invite"));
}

#[tokio::test]
async fn without_a_host_name_there_are_no_passkeys_and_the_reason_is_told() {
    let mut config = config();
    config.passkeys.as_mut().unwrap().origin = "http://127.0.0.1:8080".to_owned();
    let fixture = Fixture::with(config);
    assert_eq!(fixture.auth.passkeys_off().unwrap().as_str(), "ip_address");
    let begun = fixture
        .auth
        .begin_sign_up(named("ann"), None, &fixture.client);
    let refused = begun.await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.detail.contains("IP address"), "{refused:?}");
    let asked = fixture
        .auth
        .ask_for_passkey(AskForPasskey::default(), None, &fixture.client);
    assert_eq!(code(asked.await), ErrorCode::Conflict);
}

fn json_of_any_kind() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[A-Za-z0-9_-]{0,80}".prop_map(Value::from),
    ];
    let names = prop_oneof![
        Just("id"),
        Just("rawId"),
        Just("type"),
        Just("response"),
        Just("clientDataJSON"),
        Just("attestationObject"),
        Just("authenticatorData"),
        Just("signature"),
        Just("userHandle"),
        Just("clientExtensionResults"),
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..8).prop_map(|members| {
                members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect()
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_json_as_a_credential_is_answered(
        credential in json_of_any_kind(),
        noise in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let fixture = fixture();
            let mut device = Authenticator::new();
            fixture.sign_up("ann", &mut device).await.unwrap();
            // Whatever JSON; an answer with noise in it; an answer with one byte changed.
            let begun = fixture.ask(None).await;
            prop_assert_eq!(code(fixture.finish(shown(&begun, credential.clone())).await), ErrorCode::InvalidCredentials);
            for part in ["clientDataJSON", "authenticatorData", "signature", "userHandle"] {
                let begun = fixture.ask(None).await;
                let mut answer = device.show(&begun.public_key);
                answer["response"][part] = encode(&noise).into();
                prop_assert_eq!(code(fixture.finish(shown(&begun, answer)).await), ErrorCode::InvalidCredentials);
            }
            for part in [None, Some("attestationObject"), Some("clientDataJSON"), Some("changed")] {
                let begin = fixture.auth.begin_sign_up(named("bob"), BROWSER, &fixture.client);
                let begun = begin.await.unwrap();
                let mut answer = Authenticator::new().make(&begun.public_key);
                match part {
                    None => answer = credential.clone(),
                    Some("changed") => {
                        let mut bytes = decode(&answer["response"]["attestationObject"]);
                        let at = at.index(60);
                        if bytes[at] == byte { continue; }
                        bytes[at] = byte;
                        answer["response"]["attestationObject"] = encode(&bytes).into();
                    }
                    Some(part) => answer["response"][part] = encode(&noise).into(),
                }
                let signed_up = fixture.auth.sign_up(made(&begun, answer), Delivery::Body, BROWSER, &fixture.client);
                let refused = signed_up.await.err().map(|problem| problem.code);
                // The library's decoder takes some bytes for others that mean the same: then that is a passkey too.
                let may_pass = part == Some("changed");
                prop_assert!(refused == Some(ErrorCode::InvalidField) || (may_pass && refused.is_none()), "{refused:?}");
            }
            Ok(())
        })?;
    }

    #[test]
    fn any_client_data_is_answered_without_a_ceremony(
        credential in json_of_any_kind(),
        noise in prop::collection::vec(any::<u8>(), 0..200),
        text in any::<String>(),
        challenge in prop_oneof![
            json_of_any_kind(),
            "[A-Za-z0-9_-]{43}".prop_map(Value::from),
        ],
    ) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let fixture = fixture();
            let (auth, client) = (&fixture.auth, &fixture.client);
            let data = json!({ "type": "webauthn.get", "challenge": challenge, "origin": ORIGIN });
            let begun = fixture.ask(None).await;
            let right = Authenticator::new().show(&begun.public_key);
            for client_data in [
                Value::Null,
                credential.clone(),
                text.into(),
                encode(&noise).into(),
                encode(credential.to_string().as_bytes()).into(),
                encode(data.to_string().as_bytes()).into(),
            ] {
                let mut answer = right.clone();
                answer["response"]["clientDataJSON"] = client_data;
                for answer in [answer, credential.clone()] {
                    let signed_in = fixture.finish(bare_shown(answer.clone())).await;
                    prop_assert_eq!(code(signed_in), ErrorCode::InvalidCredentials);
                    let signed_up = auth.sign_up(bare_made(answer), Delivery::Body, BROWSER, client);
                    prop_assert_eq!(signed_up.await.err().unwrap().code, ErrorCode::InvalidField);
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn any_text_as_a_ceremony_is_answered(ceremony in any::<String>()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let fixture = fixture();
            let answer = AssertPasskey { ceremony: Some(ceremony.clone()), credential: json!({}) };
            prop_assert_eq!(code(fixture.finish(answer).await), ErrorCode::InvalidCredentials);
            let answer = NewPasskeyAnswer { ceremony: Some(ceremony), name: None, credential: json!({}) };
            let refused = fixture.auth.sign_up(answer, Delivery::Body, None, &fixture.client).await;
            prop_assert_eq!(refused.err().unwrap().code, ErrorCode::InvalidField);
            Ok(())
        })?;
    }
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(value: &Value) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(value.as_str().unwrap())
        .unwrap()
}
