//! Signing in at identity providers that are scripted: what a real one would not do.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};
use stack_auth::{
    Auth, AuthConfig, AuthError, Credential, OauthAnswer, OauthBegin, OauthDone, OauthError,
    OauthRefusal, Preset, Registration, SignInMethod, Tokens,
};
use stack_storage::{
    AccountKind, AuditAction, AuditEntry, AuditOutcome, Ceremony, Location, NewPasskey, NewUser,
};
use stack_types::{Clock, ErrorCode, GlobalRole, PasskeyId, Timestamp, UserId};
use url::Url;

use crate::provider::{self, ISSUER, Provider};
use crate::support::{Fixture, PASSWORD, code};

const MINUTE: Duration = Duration::from_secs(60);
const NOW: Timestamp = Timestamp(1_700_000_000_000);
const EMAIL: &str = "ann@example.org";

struct World {
    fixture: Fixture,
    provider: Arc<Provider>,
    browser: String,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut AuthConfig)) -> Self {
        let provider = Provider::new();
        let mut config = AuthConfig {
            oauth: Some(provider::config(provider.clone())),
            ..AuthConfig::insecure_for_tests()
        };
        change(&mut config);
        let fixture = Fixture::at(config, Location::Memory, NOW);
        let browser = fixture.auth.oauth_browser(None).unwrap();
        Self {
            fixture,
            provider,
            browser,
        }
    }

    async fn begin_with(&self, asked: OauthBegin<'_>) -> Url {
        let begun = self
            .fixture
            .auth
            .oauth_begin(asked, &self.browser, &self.fixture.client)
            .await;
        begun.unwrap().parse().unwrap()
    }

    async fn begin(&self, provider: &str) -> Url {
        let asked = OauthBegin {
            provider,
            ..OauthBegin::default()
        };
        self.begin_with(asked).await
    }

    /// Claims that are good for this way there.
    fn claims(&self, there: &Url) -> Value {
        let now = self.fixture.clock.now().0 / 1000;
        json!({
            "iss": ISSUER, "aud": "stack", "sub": "ann", "iat": now, "exp": now + 60,
            "nonce": query_of(there, "nonce"), "email": EMAIL, "email_verified": true,
        })
    }

    async fn come_back(
        &self,
        provider: &str,
        answer: OauthAnswer,
    ) -> Result<OauthDone, OauthRefusal> {
        let auth = &self.fixture.auth;
        let (browser, client) = (Some(self.browser.as_str()), &self.fixture.client);
        let done = auth.oauth_callback(provider, answer, browser, None, client);
        done.await.map_err(|error| match error {
            OauthError::Refused(refused) => refused,
            OauthError::Problem(problem) => panic!("{problem:?}"),
        })
    }

    /// Signs in with a token whose header and claims are changed.
    async fn sign_in_with(
        &self,
        change: impl FnOnce(&mut Value, &mut Value),
    ) -> Result<OauthDone, OauthRefusal> {
        let there = self.begin("one").await;
        let mut header = json!({ "alg": "ES256", "kid": "first" });
        let mut claims = self.claims(&there);
        change(&mut header, &mut claims);
        let token = self.provider.token(&header, &claims);
        self.provider.will_give(&token);
        self.come_back("one", answer(&there)).await
    }

    async fn sign_in(
        &self,
        sub: &str,
        email: Option<(&str, bool)>,
    ) -> Result<Tokens, OauthRefusal> {
        let done = self.sign_in_with(|_, claims| {
            claims["sub"] = sub.into();
            match email {
                Some((email, verified)) => {
                    claims["email"] = email.into();
                    claims["email_verified"] = verified.into();
                }
                None => {
                    claims.as_object_mut().unwrap().remove("email");
                    self.provider.answer("/userinfo", json!({ "sub": sub }));
                }
            }
        });
        Ok(done.await?.tokens.unwrap())
    }

    async fn account(&self, username: &str, role: GlobalRole) -> UserId {
        let id = UserId::generate(self.fixture.clock.now());
        let new = NewUser {
            id,
            username: username.parse().unwrap(),
            display_name: username.to_owned(),
            email: Some(EMAIL.to_owned()),
            email_verified: false,
            password_hash: None,
            role,
            kind: AccountKind::Person,
            invite: None,
        };
        let made = self.fixture.store.create_user(new, entry());
        made.await.unwrap().unwrap();
        id
    }
}

fn entry() -> AuditEntry {
    AuditEntry {
        actor: None,
        ip: String::new(),
        session: None,
        action: AuditAction::AccountMade,
        target: None,
        outcome: AuditOutcome::Ok,
    }
}

fn query_of(url: &Url, name: &str) -> String {
    let mut pairs = url.query_pairs();
    let found = pairs.find(|(key, _)| key == name);
    found.map_or_else(String::new, |(_, value)| value.into_owned())
}

fn answer(there: &Url) -> OauthAnswer {
    OauthAnswer {
        state: Some(query_of(there, "state")),
        code: Some("code".to_owned()),
        ..OauthAnswer::default()
    }
}

const FAULTY: Option<OauthRefusal> = Some(OauthRefusal::ProviderError);

#[tokio::test]
async fn algorithms_outside_the_list_are_refused() {
    let world = World::new();
    assert!(world.sign_in_with(|_, _| {}).await.is_ok());
    // Signed with the secret that both have, or not at all, or said to be something that it is not.
    for alg in [
        "HS256", "none", "None", "HS512", "RS256", "ES512", "EdDSA", "",
    ] {
        for kid in [json!("first"), json!("other"), Value::Null] {
            let done = world.sign_in_with(|header, _| *header = json!({ "alg": alg, "kid": kid }));
            assert_eq!(done.await.err(), FAULTY, "{alg} {kid}");
        }
    }
    let unsigned = world.sign_in_with(|header, _| {
        header.as_object_mut().unwrap().remove("alg");
    });
    assert_eq!(unsigned.await.err(), FAULTY);
}

#[tokio::test]
async fn a_token_of_another_is_refused() {
    let world = World::new();
    let second = NOW.0 / 1000;
    for (claim, value) in [
        ("iss", json!("https://evil.example")),
        ("iss", json!("https://id.example/")),
        ("aud", json!("another")),
        ("aud", json!(["another"])),
        ("aud", json!(["stack", "another"])),
        ("azp", json!("another")),
        ("exp", json!(second)),
        ("exp", json!(second - 600)),
        ("nonce", json!("another")),
        ("nonce", Value::Null),
        ("sub", json!("")),
        ("sub", json!("a\u{0}b")),
        ("sub", json!("a".repeat(256))),
        ("sub", Value::Null),
    ] {
        let done = world.sign_in_with(|_, claims| claims[claim] = value.clone());
        assert_eq!(done.await.err(), FAULTY, "{claim} {value}");
    }
    let done = world.sign_in_with(|_, claims| {
        claims["aud"] = json!(["stack"]);
        claims["azp"] = json!("stack");
    });
    assert!(done.await.is_ok());
}

#[tokio::test]
async fn a_signature_that_is_another_ones_is_refused() {
    let world = World::new();
    let other = Provider::new();
    let there = world.begin("one").await;
    let header = json!({ "alg": "ES256", "kid": "first" });
    let token = other.token(&header, &world.claims(&there));
    world.provider.will_give(&token);
    let done = world.come_back("one", answer(&there)).await;
    assert_eq!(done.err(), FAULTY);
}

#[tokio::test]
async fn an_unknown_kid_refetches_once_a_minute() {
    let world = World::new();
    let with_kid =
        |kid: &'static str| world.sign_in_with(move |header, _| header["kid"] = kid.into());
    assert!(with_kid("first").await.is_ok());
    assert_eq!(world.provider.asked("/jwks"), 1);
    // The provider has a new key; it is found, and what is none costs one request a minute.
    let keys = json!({ "keys": [world.provider.jwk("second")] });
    world.provider.answer("/jwks", keys);
    assert!(with_kid("second").await.is_ok());
    assert_eq!(world.provider.asked("/jwks"), 2);
    for _ in 0..5 {
        assert_eq!(with_kid("third").await.err(), FAULTY);
    }
    assert_eq!(world.provider.asked("/jwks"), 2);
    assert!(with_kid("second").await.is_ok());
    world.fixture.clock.advance(MINUTE);
    for _ in 0..5 {
        assert_eq!(with_kid("third").await.err(), FAULTY);
    }
    assert_eq!(world.provider.asked("/jwks"), 3);
}

#[tokio::test]
async fn iss_is_checked_when_present() {
    let world = World::new();
    let with_iss = async |iss: Option<&str>| {
        let there = world.begin("one").await;
        let header = json!({ "alg": "ES256", "kid": "first" });
        let token = world.provider.token(&header, &world.claims(&there));
        world.provider.will_give(&token);
        let answer = OauthAnswer {
            iss: iss.map(str::to_owned),
            ..answer(&there)
        };
        world.come_back("one", answer).await.err()
    };
    assert_eq!(with_iss(Some(ISSUER)).await, None);
    assert_eq!(with_iss(None).await, None);
    for iss in ["", "https://id.example/", "https://evil.example"] {
        assert_eq!(with_iss(Some(iss)).await, FAULTY, "{iss}");
    }
    // Who promised to say it must, from when that is known.
    let promise = "authorization_response_iss_parameter_supported";
    world.provider.describe(promise, json!(true));
    world.fixture.clock.advance(60 * MINUTE);
    assert_eq!(with_iss(None).await, FAULTY);
    assert_eq!(with_iss(Some(ISSUER)).await, None);
}

#[tokio::test]
async fn a_reason_is_not_listened_to_before_it_is_known_whose_it_is() {
    let world = World::new();
    let there = world.begin("one").await;
    let denied = OauthAnswer {
        code: None,
        error: Some("access_denied".to_owned()),
        ..answer(&there)
    };
    let elsewhere = OauthAnswer {
        iss: Some("https://evil.example".to_owned()),
        ..denied.clone()
    };
    assert_eq!(world.come_back("one", elsewhere).await.err(), FAULTY);
    for (error, refusal) in [
        ("access_denied", OauthRefusal::Denied),
        ("temporarily_unavailable", OauthRefusal::ProviderUnavailable),
        ("server_error", OauthRefusal::ProviderUnavailable),
        ("<script>", OauthRefusal::ProviderError),
    ] {
        let there = world.begin("one").await;
        let answer = OauthAnswer {
            error: Some(error.to_owned()),
            ..answer(&there)
        };
        assert_eq!(world.come_back("one", answer).await.err(), Some(refusal));
    }
}

#[tokio::test]
async fn what_is_remembered_of_a_sign_in_is_sealed() {
    let world = World::new();
    let invite = "an-invitation-that-nobody-else-should-read";
    let asked = OauthBegin {
        provider: "one",
        invite: Some(invite),
        ..OauthBegin::default()
    };
    let there = world.begin_with(asked).await;
    let state = query_of(&there, "state");
    let state = URL_SAFE_NO_PAD.decode(state).unwrap();
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, &state).as_ref());
    let kept = world.fixture.store.ceremony(Ceremony::OauthState, key);
    let kept = kept.unwrap().unwrap();
    let plain = STANDARD_NO_PAD.decode(&kept).unwrap();
    let plain = String::from_utf8_lossy(&plain);
    for secret in [invite, &query_of(&there, "nonce"), "pkce_verifier"] {
        assert!(
            !plain.contains(secret) && !kept.contains(secret),
            "{secret}"
        );
    }
}

#[tokio::test]
async fn a_state_ends_after_ten_minutes() {
    let world = World::new();
    let there = world.begin("one").await;
    world.fixture.clock.advance(10 * MINUTE);
    let header = json!({ "alg": "ES256", "kid": "first" });
    let token = world.provider.token(&header, &world.claims(&there));
    world.provider.will_give(&token);
    let done = world.come_back("one", answer(&there)).await;
    assert_eq!(done.err(), Some(OauthRefusal::Expired));
    assert_eq!(world.provider.asked("/token"), 0);
}

#[tokio::test]
async fn of_many_callbacks_with_one_state_a_single_one_counts() {
    let world = Arc::new(World::new());
    let there = world.begin("one").await;
    let header = json!({ "alg": "ES256", "kid": "first" });
    let token = world.provider.token(&header, &world.claims(&there));
    world.provider.will_give(&token);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (world, answer) = (world.clone(), answer(&there));
        tasks.spawn(async move { world.come_back("one", answer).await.err() });
    }
    let results = tasks.join_all().await;
    let count = |result| results.iter().filter(|one| **one == result).count();
    assert_eq!(count(None), 1);
    assert_eq!(count(Some(OauthRefusal::Expired)), 49);
    assert_eq!(world.provider.asked("/token"), 1);
}

#[tokio::test]
async fn a_provider_is_asked_once_an_hour_and_not_hammered_when_it_is_down() {
    let world = World::new();
    let path = "/.well-known/openid-configuration";
    world.provider.set_down(true);
    let asked = || OauthBegin {
        provider: "one",
        ..OauthBegin::default()
    };
    for _ in 0..5 {
        let begun = world
            .fixture
            .auth
            .oauth_begin(asked(), &world.browser, &world.fixture.client)
            .await;
        let unavailable = OauthRefusal::ProviderUnavailable;
        assert!(matches!(begun, Err(OauthError::Refused(reason)) if reason == unavailable));
    }
    assert_eq!(world.provider.asked(path), 1);
    world.provider.set_down(false);
    world.fixture.clock.advance(Duration::from_secs(5));
    for _ in 0..5 {
        world.begin("one").await;
    }
    assert_eq!(world.provider.asked(path), 2);
    world.fixture.clock.advance(60 * MINUTE);
    world.begin("one").await;
    assert_eq!(world.provider.asked(path), 3);
}

#[tokio::test]
async fn of_many_who_begin_at_once_one_asks_the_provider() {
    let world = Arc::new(World::new());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let world = world.clone();
        tasks.spawn(async move { world.begin("one").await });
    }
    let begun = tasks.join_all().await;
    let states: std::collections::HashSet<_> =
        begun.iter().map(|there| query_of(there, "state")).collect();
    assert_eq!(states.len(), 20);
    let asked = world.provider.asked("/.well-known/openid-configuration");
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn a_second_factor_stands_behind_the_password_alone() {
    let world = World::new();
    let fixture = &world.fixture;
    let tokens = world.sign_in("ann", None).await.unwrap();
    fixture
        .store
        .enroll_totp(tokens.user.id, vec![1])
        .await
        .unwrap();
    let confirmed = fixture
        .store
        .confirm_totp(tokens.user.id, vec![1], 1, vec![[1; 32]], entry());
    assert!(confirmed.await.unwrap());
    assert!(world.sign_in("ann", None).await.is_ok());
}

#[tokio::test]
async fn a_provider_that_describes_itself_badly_is_refused() {
    for (name, value) in [
        ("issuer", json!("https://evil.example")),
        ("token_endpoint", json!("http://id.example/token")),
        (
            "authorization_endpoint",
            json!("http://id.example/authorize"),
        ),
        ("userinfo_endpoint", json!("http://id.example/userinfo")),
        ("jwks_uri", json!("http://id.example/jwks")),
        ("token_endpoint", Value::Null),
        ("jwks_uri", json!(7)),
    ] {
        let world = World::new();
        world.provider.describe(name, value.clone());
        let asked = OauthBegin {
            provider: "one",
            ..OauthBegin::default()
        };
        let begun = world
            .fixture
            .auth
            .oauth_begin(asked, &world.browser, &world.fixture.client)
            .await;
        let faulty = matches!(begun, Err(OauthError::Refused(OauthRefusal::ProviderError)));
        assert!(faulty, "{name} {value}");
    }
}

#[tokio::test]
async fn the_code_is_exchanged_with_what_only_we_know() {
    let world = World::new();
    world.sign_in_with(|_, _| {}).await.unwrap();
    let sent = world.provider.sent();
    let exchange = sent.iter().find(|body| body.contains("code=code")).unwrap();
    let callback =
        "redirect_uri=https%3A%2F%2Fchat.example%2Fapi%2Fv1%2Fauth%2Foauth%2Fone%2Fcallback";
    assert!(exchange.contains(callback), "{exchange}");
    assert!(exchange.contains("code_verifier="), "{exchange}");
    // The secret is in a header, and no header is kept.
    assert!(!exchange.contains("client_secret"), "{exchange}");
}

#[tokio::test]
async fn claims_of_somebody_else_are_refused() {
    let world = World::new();
    let sign_in = || {
        world.sign_in_with(|_, claims| {
            claims.as_object_mut().unwrap().remove("email");
        })
    };
    let told = |sub: &str| json!({ "sub": sub, "email": EMAIL, "email_verified": "true" });
    world.provider.answer("/userinfo", told("mallory"));
    assert_eq!(sign_in().await.err(), FAULTY);
    world.provider.answer("/userinfo", told("ann"));
    let tokens = sign_in().await.unwrap().tokens.unwrap();
    // Verified is what says so by `true`, and not by a word.
    assert_eq!(tokens.user.email, None);
}

#[tokio::test]
async fn a_second_provider_with_the_same_account_is_the_same_account() {
    let world = World::new();
    let first = world.sign_in("ann", None).await.unwrap();
    let there = world.begin("two").await;
    let header = json!({ "alg": "ES256", "kid": "first" });
    let token = world.provider.token(&header, &world.claims(&there));
    world.provider.will_give(&token);
    let second = world.come_back("two", answer(&there)).await.unwrap();
    assert_eq!(second.tokens.unwrap().user.id, first.user.id);
}

/// † PocketBase #7662.
#[tokio::test]
async fn linking_to_an_unverified_account_wipes_what_its_maker_left() {
    let world = World::new();
    let fixture = &world.fixture;
    // Mallory makes an account with somebody else's address and leaves every way in that there is.
    let mut asked = crate::support::registration("mallory", PASSWORD);
    asked.email = Some(EMAIL.to_owned());
    let mallory = fixture.auth.register(asked, &fixture.client).await.unwrap();
    let owner = mallory.user.id;
    let passkey = NewPasskey {
        id: PasskeyId::generate(NOW),
        user_id: owner,
        credential_id: vec![7; 16],
        name: "key".to_owned(),
        credential: "{}".to_owned(),
    };
    let added = fixture.store.add_passkey(passkey, entry()).await.unwrap();
    assert!(added.is_ok());
    let caller = fixture.caller(&mallory);
    let begin = OauthBegin {
        provider: "one",
        ..OauthBegin::default()
    };
    let there = fixture
        .auth
        .oauth_link_begin(&caller, begin, false, &world.browser)
        .await;
    let there: Url = there.unwrap().parse().unwrap();
    let mut claims = world.claims(&there);
    claims["sub"] = "mallory".into();
    claims["email"] = "mallory@example.org".into();
    let header = json!({ "alg": "ES256", "kid": "first" });
    world
        .provider
        .will_give(&world.provider.token(&header, &claims));
    world.come_back("one", answer(&there)).await.unwrap();
    let enrolled = fixture.store.enroll_totp(owner, vec![1]).await;
    enrolled.unwrap();
    let confirmed = fixture
        .store
        .confirm_totp(owner, vec![1], 1, vec![[1; 32]], entry());
    assert!(confirmed.await.unwrap());
    let ways = fixture.store.ways_in(owner).unwrap();
    assert!(ways.password && ways.totp);
    assert_eq!((ways.passkeys, ways.links), (1, 1));

    // Its owner comes, vouched for.
    let tokens = world.sign_in("ann", Some((EMAIL, true))).await.unwrap();
    assert_eq!(tokens.user.id, owner);
    let ways = fixture.store.ways_in(owner).unwrap();
    assert!(!ways.password && !ways.totp);
    assert_eq!((ways.passkeys, ways.links), (0, 1));
    assert_eq!(fixture.store.passkey(&[7; 16]).unwrap(), None);
    assert_eq!(fixture.store.oauth_link(ISSUER, "mallory").unwrap(), None);
    assert_eq!(fixture.store.recovery_codes_left(owner).unwrap(), 0);
    assert_eq!(fixture.revoked(), [mallory.session_id]);
    assert!(fixture.auth.authenticate(&mallory.access_token).is_err());
    let refreshed = fixture.refresh(&mallory.refresh_token).await;
    assert_eq!(code(refreshed), ErrorCode::Unauthenticated);
    assert_eq!(
        code(fixture.login("mallory", PASSWORD).await),
        ErrorCode::InvalidCredentials
    );
    assert!(
        fixture
            .store
            .account(owner)
            .unwrap()
            .unwrap()
            .email_verified
    );
    let audit = fixture.audit().await;
    for entry in ["account_adopted ok", "oauth_linked ok", "login ok"] {
        assert!(audit.iter().any(|one| one == entry), "{entry}: {audit:?}");
    }
}

#[tokio::test]
async fn an_admins_account_is_not_adopted() {
    let world = World::new();
    let admin = world.account("root", GlobalRole::Admin).await;
    let refused = world.sign_in("ann", Some((EMAIL, true))).await;
    assert_eq!(refused.unwrap_err(), OauthRefusal::EmailExists);
    assert_eq!(world.fixture.store.oauth_links_of(admin).unwrap(), []);
}

#[tokio::test]
async fn a_disabled_account_is_no_way_in() {
    let world = World::new();
    let tokens = world.sign_in("ann", Some((EMAIL, true))).await.unwrap();
    let name = tokens.user.username;
    let auth = &world.fixture.auth;
    auth.set_disabled(&name, true).await.unwrap();
    // Neither by its link, nor by its address.
    for sub in ["ann", "another"] {
        let refused = world.sign_in(sub, Some((EMAIL, true))).await;
        assert_eq!(refused.unwrap_err(), OauthRefusal::AccountDisabled);
    }
    auth.set_disabled(&name, false).await.unwrap();
    assert!(world.sign_in("ann", None).await.is_ok());
}

#[tokio::test]
async fn a_session_says_that_it_came_from_a_provider() {
    let world = World::new();
    let tokens = world.sign_in("ann", None).await.unwrap();
    let found = world.fixture.store.session_with_account(tokens.session_id);
    let (session, account) = found.unwrap().unwrap();
    assert_eq!(session.method, SignInMethod::Oauth);
    assert_eq!(account.user.role, GlobalRole::Member);
    assert_eq!(account.password_hash, None);
    assert_eq!(world.fixture.audit().await, ["register ok"]);
}

/// Without a time in the token the provider may have been content with an earlier sign-in.
#[tokio::test]
async fn who_shows_again_who_they_are_has_done_it_since() {
    let world = World::new();
    let fixture = &world.fixture;
    let tokens = world.sign_in("ann", None).await.unwrap();
    let caller = fixture.caller(&tokens);
    fixture.clock.advance(11 * MINUTE);
    let shown = || fixture.auth.current(&caller).unwrap().credential;
    let signed_in = shown();
    let again = async |auth_time: Option<u64>| {
        let asked = OauthBegin {
            provider: "one",
            ..OauthBegin::default()
        };
        let begun = fixture
            .auth
            .oauth_link_begin(&caller, asked, true, &world.browser);
        let there: Url = begun.await.unwrap().parse().unwrap();
        let mut claims = world.claims(&there);
        if let Some(auth_time) = auth_time {
            claims["auth_time"] = auth_time.into();
        }
        let header = json!({ "alg": "ES256", "kid": "first" });
        world
            .provider
            .will_give(&world.provider.token(&header, &claims));
        world.come_back("one", answer(&there)).await
    };
    let now = fixture.clock.now().0 / 1000;
    // As long as providers' clocks may be behind ours, and not longer.
    for earlier in [None, Some(0), Some(now - 600), Some(now - 61)] {
        assert_eq!(again(earlier).await.err(), FAULTY, "{earlier:?}");
        assert_eq!(shown(), signed_in);
    }
    assert!(again(Some(now - 60)).await.unwrap().tokens.is_none());
    let Credential::Session {
        authenticated_at, ..
    } = shown()
    else {
        panic!("a session stays one");
    };
    assert_eq!(authenticated_at, fixture.clock.now());
}

#[tokio::test]
async fn plain_oauth_shows_nobody_again() {
    let world = World::new();
    let tokens = world.sign_in("ann", None).await.unwrap();
    let caller = world.fixture.caller(&tokens);
    for provider in ["github", "discord"] {
        let asked = OauthBegin {
            provider,
            ..OauthBegin::default()
        };
        let auth = &world.fixture.auth;
        let begin = |again| auth.oauth_link_begin(&caller, asked, again, &world.browser);
        let Err(OauthError::Problem(refused)) = begin(true).await else {
            panic!("{provider} cannot ask again");
        };
        assert_eq!(refused.code, ErrorCode::Conflict);
        assert!(begin(false).await.is_ok(), "it can be linked all the same");
    }
}

#[tokio::test]
async fn what_is_refused_is_on_record() {
    let world = World::new();
    world.account("taken", GlobalRole::Member).await;
    let refused = world.sign_in("ann", Some((EMAIL, false))).await;
    assert_eq!(refused.unwrap_err(), OauthRefusal::EmailExists);
    let records = world.fixture.store.list_audit(None, 1).await.unwrap();
    assert_eq!(records[0].action, "oauth_refused");
    assert_eq!(records[0].target.as_deref(), Some("one email_exists"));
}

#[tokio::test]
async fn who_is_new_needs_what_everybody_new_needs() {
    let world = World::with(|config| config.registration = Registration::Invite);
    let refused = world.sign_in("ann", None).await;
    assert_eq!(refused.unwrap_err(), OauthRefusal::RegistrationClosed);
    let admin = world.account("root", GlobalRole::Admin).await;
    let fixture = &world.fixture;
    let session = stack_storage::NewSession {
        id: stack_types::SessionId::generate(NOW),
        user_id: admin,
        device: "test".to_owned(),
        ip: "192.0.2.1".to_owned(),
        delivery: stack_storage::Delivery::Body,
        method: SignInMethod::Setup,
        refresh: [1; 32],
        lifetime: 60 * MINUTE,
        idle: 60 * MINUTE,
    };
    let begun = fixture.store.begin_session(session, entry()).await.unwrap();
    let (account, session) = begun.unwrap();
    let caller = stack_auth::Caller {
        user: account.user,
        session_id: session.id,
        credential: stack_auth::Credential::Session {
            authenticated_at: NOW,
            method: SignInMethod::Setup,
        },
        expires_at: NOW.plus(MINUTE),
    };
    let made =
        fixture
            .auth
            .make_invite(&caller, stack_auth::MakeInvite::default(), &fixture.client);
    let invite = made.await.unwrap().text;
    let come = async |sub: &str| {
        let asked = OauthBegin {
            provider: "one",
            invite: Some(&invite),
            ..OauthBegin::default()
        };
        let there = world.begin_with(asked).await;
        let mut claims = world.claims(&there);
        claims["sub"] = sub.into();
        claims["email"] = format!("{sub}@b.example").into();
        let header = json!({ "alg": "ES256", "kid": "first" });
        world
            .provider
            .will_give(&world.provider.token(&header, &claims));
        world.come_back("one", answer(&there)).await
    };
    let done = come("ann").await.unwrap();
    assert_eq!(done.invite.as_deref(), Some(invite.as_str()));
    // It is used up, but who has an account needs none.
    let refused = come("bob").await.unwrap_err();
    assert_eq!(refused, OauthRefusal::RegistrationClosed);
    assert_eq!(come("ann").await.unwrap().invite, None);
}

#[tokio::test]
async fn accounts_made_at_a_provider_count_as_others_do() {
    let world = World::new();
    for number in 0..5 {
        assert!(world.sign_in(&format!("user-{number}"), None).await.is_ok());
    }
    let refused = world.sign_in("one-too-many", None).await;
    assert_eq!(refused.unwrap_err(), OauthRefusal::TryLater);
    assert!(world.sign_in("user-1", None).await.is_ok());
}

#[tokio::test]
async fn githubs_address_is_the_primary_one_if_it_is_verified() {
    let world = World::new();
    let email = |email: &str, primary: bool, verified: bool| json!({ "email": email, "primary": primary, "verified": verified, "visibility": null });
    world.provider.answer(
        "/login/oauth/access_token",
        json!({ "access_token": "t", "token_type": "bearer", "scope": "read:user,user:email" }),
    );
    let sign_in = async |id: u64, login: &str, emails: Value| {
        world
            .provider
            .answer("/user", json!({ "id": id, "login": login, "name": null }));
        world.provider.answer("/user/emails", emails);
        let there = world.begin("github").await;
        assert_eq!(there.host_str(), Some("github.com"));
        assert_eq!(query_of(&there, "code_challenge_method"), "S256");
        assert_eq!(query_of(&there, "scope"), "read:user user:email");
        world.come_back("github", answer(&there)).await
    };
    let both = json!([
        email("other@b.example", false, true),
        email(EMAIL, true, true)
    ]);
    let ann = sign_in(1, "Ann", both).await.unwrap().tokens.unwrap();
    assert_eq!(ann.user.email.as_deref(), Some(EMAIL));
    assert_eq!(ann.user.username.as_str(), "ann");
    // The number is who they are: the name may be somebody else's tomorrow.
    let renamed = sign_in(1, "renamed", json!([]))
        .await
        .unwrap()
        .tokens
        .unwrap();
    assert_eq!(renamed.user.id, ann.user.id);
    let verified_beside = json!([
        email("x@b.example", true, false),
        email("y@b.example", false, true)
    ]);
    let bob = sign_in(2, "Ann", verified_beside)
        .await
        .unwrap()
        .tokens
        .unwrap();
    assert_ne!(bob.user.id, ann.user.id);
    assert_eq!(bob.user.email, None);
    let unverified = json!([email(EMAIL, true, false)]);
    let refused = sign_in(3, "eve", unverified).await.unwrap_err();
    assert_eq!(refused, OauthRefusal::EmailExists);
    // What an error looks like there: a 200 that is none.
    world.provider.answer(
        "/login/oauth/access_token",
        json!({ "error": "bad_verification_code", "error_description": "gone" }),
    );
    assert_eq!(sign_in(1, "Ann", json!([])).await.err(), FAULTY);
}

#[tokio::test]
async fn discords_address_counts_when_it_is_verified() {
    let world = World::new();
    world.provider.answer(
        "/api/oauth2/token",
        json!({ "access_token": "t", "token_type": "Bearer", "expires_in": 60 }),
    );
    let sign_in = async |id: &str, verified: Value| {
        let user = json!({
            "id": id, "username": "ann", "global_name": "Ann", "email": EMAIL, "verified": verified,
        });
        world.provider.answer("/api/users/@me", user);
        let there = world.begin("discord").await;
        assert_eq!(there.host_str(), Some("discord.com"));
        let answer = OauthAnswer {
            iss: Some("https://discord.com".to_owned()),
            ..answer(&there)
        };
        world.come_back("discord", answer).await
    };
    let first = sign_in("1", json!(true)).await.unwrap().tokens.unwrap();
    assert_eq!(first.user.email.as_deref(), Some(EMAIL));
    assert_eq!(first.user.display_name, "Ann");
    for verified in [json!(false), Value::Null] {
        let refused = sign_in("2", verified).await.unwrap_err();
        assert_eq!(refused, OauthRefusal::EmailExists);
    }
    assert_eq!(sign_in("3", json!("true")).await.err(), FAULTY);
}

/// † GHSA-8fpg-xm3f-6cx3: a fault in the configuration is no way in.
#[tokio::test]
async fn a_faulty_provider_makes_no_auth() {
    let fixture = Fixture::new();
    let faulty = |change: fn(&mut stack_auth::ProviderConfig)| {
        let mut oauth = provider::config(Provider::new());
        change(&mut oauth.providers[0]);
        let config = AuthConfig {
            oauth: Some(oauth),
            ..AuthConfig::insecure_for_tests()
        };
        let clock: Arc<dyn Clock> = fixture.clock.clone();
        Auth::new(config, fixture.store.clone(), clock, Arc::new(|_| {}))
    };
    assert!(faulty(|_| {}).is_ok());
    for change in [
        (|one| one.client_id.clear()) as fn(&mut stack_auth::ProviderConfig),
        |one| one.client_secret.clear(),
        |one| one.issuer = None,
        |one| one.issuer = Some("nowhere".to_owned()),
        |one| one.preset = Some(Preset::Google),
        |one| one.name = "two".to_owned(),
    ] {
        assert!(matches!(faulty(change), Err(AuthError::Provider { .. })));
    }
}

#[tokio::test]
async fn no_refusal_is_called_like_another() {
    let mut names: Vec<_> = OauthRefusal::ALL.map(OauthRefusal::as_str).to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), OauthRefusal::ALL.len());
}

/// JSON in the shapes that keys, tokens and descriptions have, with the names that stand in them.
fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "(EC|RSA|OKP|oct|P-256|P-384|Ed25519|sig|AQAB|[A-Za-z0-9_-]{0,44})".prop_map(Value::from),
    ];
    let name = "(kty|crv|use|kid|alg|x|y|n|e|k|keys|issuer|jwks_uri|sub|email|id_token|access_token|token_type)";
    leaf.prop_recursive(2, 12, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_a_provider_answers_is_refused(
        header in "\\PC{0,40}", claims in "\\PC{0,40}", tag in "[A-Za-z0-9_-]{0,90}",
        code in "\\PC{0,40}", iss in prop::option::of("\\PC{0,20}"),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let there = world.begin("one").await;
            let text = |part: &str| URL_SAFE_NO_PAD.encode(part);
            world.provider.will_give(&format!("{}.{}.{tag}", text(&header), text(&claims)));
            let answer = OauthAnswer { code: Some(code), iss, ..answer(&there) };
            assert_eq!(world.come_back("one", answer).await.err(), FAULTY);
        });
    }

    #[test]
    fn whatever_stands_in_an_answer_is_answered(
        place in 0usize..4, text in "\\PC{0,60}|[\\[\\]{}\",:0-9a-z]{0,60}", key in arbitrary_json(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let places = ["/.well-known/openid-configuration", "/jwks", "/token", "/userinfo"];
            for body in [text, key.to_string(), json!({ "keys": [key] }).to_string()] {
                let world = World::new();
                world.provider.answer_raw(places[place], &body);
                let asked = OauthBegin { provider: "one", ..OauthBegin::default() };
                let begun = world.fixture.auth.oauth_begin(asked, &world.browser, &world.fixture.client).await;
                let Ok(there) = begun else { continue };
                let there: Url = there.parse().unwrap();
                let mut claims = world.claims(&there);
                claims.as_object_mut().unwrap().remove("email");
                let header = json!({ "alg": "ES256", "kid": "first" });
                world.provider.will_give(&world.provider.token(&header, &claims));
                assert_eq!(world.come_back("one", answer(&there)).await.err(), FAULTY);
            }
        });
    }

    #[test]
    fn whatever_a_callback_brings_is_answered(
        state in prop::option::of("\\PC{0,60}"), code in prop::option::of("\\PC{0,20}"),
        error in prop::option::of("\\PC{0,20}"), iss in prop::option::of("\\PC{0,20}"), name in "\\PC{0,10}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let answer = OauthAnswer { state, code, error, iss };
            assert_eq!(world.come_back(&name, answer).await.err(), Some(OauthRefusal::Expired));
        });
    }
}
