//! The second factor behind a password.

use std::time::Duration;

use proptest::prelude::*;
use stack_auth::{
    AuthConfig, Caller, HashCost, KeySource, SecondFactor, SignIn, SignInMethod, Throttle, Tokens,
};
use stack_types::{Clock, ErrorCode, Problem};
use totp_rs::{Builder, Secret, Totp};

use crate::support::{Fixture, PASSWORD, code};

const STEP: Duration = Duration::from_secs(30);
const WRONG: &str = "aaaa-aaaa-aaaa-aaaa";

/// Somebody with a second factor.
pub(crate) struct Enrolled {
    pub(crate) caller: Caller,
    pub(crate) app: Totp,
    pub(crate) codes: Vec<String>,
}

impl Enrolled {
    /// The app's code at the fixture's time, so many steps later.
    pub(crate) fn code(&self, fixture: &Fixture, steps: i64) -> String {
        let seconds = (fixture.clock.now().0 / 1000).strict_add_signed(30 * steps);
        self.app.generate(seconds).to_string()
    }
}

pub(crate) fn app_of(secret: &str) -> Totp {
    let secret = Secret::try_from_base32(secret).unwrap();
    let builder = Builder::new().with_secret(secret);
    builder.with_account_name("x").build().unwrap()
}

/// Makes an account and turns its second factor on; the codes of this step are spent with it.
pub(crate) async fn enrolled(fixture: &Fixture, username: &str) -> Enrolled {
    let caller = fixture.caller(&fixture.register(username).await);
    let asked = fixture.auth.enroll_totp(&caller, "Stack").await.unwrap();
    assert!(asked.otpauth_uri.contains(&asked.secret));
    let app = app_of(&asked.secret);
    let mut person = Enrolled {
        caller,
        app,
        codes: Vec::new(),
    };
    let first = person.code(fixture, 0);
    let confirmed = fixture
        .auth
        .confirm_totp(&person.caller, &first, &fixture.client);
    person.codes = confirmed.await.unwrap();
    fixture.clock.advance(2 * STEP);
    person
}

pub(crate) async fn ticket(fixture: &Fixture, login: &str) -> String {
    match fixture.begin_login(login, PASSWORD).await.unwrap() {
        SignIn::SecondFactor { ticket } => ticket,
        SignIn::Done(_) => panic!("the second factor was not asked for"),
    }
}

pub(crate) async fn finish(fixture: &Fixture, ticket: &str, code: &str) -> Result<Tokens, Problem> {
    let asked = SecondFactor {
        ticket: ticket.to_owned(),
        code: code.to_owned(),
    };
    fixture.auth.finish_login(asked, &fixture.client).await
}

#[tokio::test]
async fn a_sign_in_asks_for_the_second_factor() {
    let fixture = Fixture::new();
    let ann = enrolled(&fixture, "ann").await;
    let waiting = ticket(&fixture, "ann").await;
    let tokens = finish(&fixture, &waiting, &ann.code(&fixture, 0))
        .await
        .unwrap();
    assert_eq!(tokens.user.id, ann.caller.user.id);
    fixture.caller(&tokens);
    let session = fixture.store.session_with_account(tokens.session_id);
    let (session, _) = session.unwrap().unwrap();
    assert_eq!(session.method, SignInMethod::PasswordAndTotp);
    assert_eq!(
        fixture.audit().await,
        [
            "register ok",
            "totp_enabled ok",
            "second_factor ok",
            "login ok"
        ]
    );
    let wrong = fixture.begin_login("ann", "a wrong password here").await;
    assert_eq!(code(wrong), ErrorCode::InvalidCredentials);
}

#[tokio::test]
async fn a_secret_asks_nothing_before_it_is_confirmed() {
    let fixture = Fixture::new();
    let caller = fixture.caller(&fixture.register("ann").await);
    let auth = &fixture.auth;
    let none = auth.confirm_totp(&caller, "123456", &fixture.client).await;
    assert_eq!(code(none), ErrorCode::Conflict);
    let first = auth.enroll_totp(&caller, "Stack").await.unwrap();
    let second = auth.enroll_totp(&caller, "Stack").await.unwrap();
    assert_ne!(first.secret, second.secret);
    fixture.login("ann", PASSWORD).await.unwrap();
    assert!(!auth.second_factor(&caller).unwrap().enabled);
    let now = fixture.clock.now().0 / 1000;
    let old = app_of(&first.secret).generate(now).to_string();
    let refused = auth.confirm_totp(&caller, &old, &fixture.client).await;
    assert_eq!(code(refused), ErrorCode::InvalidCredentials);
    let new = app_of(&second.secret).generate(now).to_string();
    let codes = auth.confirm_totp(&caller, &new, &fixture.client).await;
    assert_eq!(codes.unwrap().len(), 10);
    let view = auth.second_factor(&caller).unwrap();
    assert!(view.enabled && view.confirmed_at.is_some());
    assert_eq!(view.recovery_codes_left, 10);
    let again = auth.enroll_totp(&caller, "Stack").await;
    assert_eq!(code(again), ErrorCode::Conflict);
}

#[tokio::test]
async fn a_totp_code_is_good_once() {
    let fixture = Fixture::new();
    let ann = enrolled(&fixture, "ann").await;
    let code_now = ann.code(&fixture, 0);
    let waiting = ticket(&fixture, "ann").await;
    finish(&fixture, &waiting, &code_now).await.unwrap();
    let waiting = ticket(&fixture, "ann").await;
    for spent in [code_now, ann.code(&fixture, -1)] {
        let replayed = finish(&fixture, &waiting, &spent).await;
        assert_eq!(code(replayed), ErrorCode::InvalidCredentials);
    }
    // The ticket stays good, and so does the next code.
    let next = ann.code(&fixture, 1);
    finish(&fixture, &waiting, &next).await.unwrap();
}

#[tokio::test]
async fn a_totp_code_is_good_one_step_either_way() {
    let fixture = Fixture::new();
    let ann = enrolled(&fixture, "ann").await;
    fixture.clock.advance(10 * STEP);
    for (steps, good) in [(-2, false), (2, false), (-1, true), (1, true)] {
        let waiting = ticket(&fixture, "ann").await;
        let got = finish(&fixture, &waiting, &ann.code(&fixture, steps)).await;
        assert_eq!(got.is_ok(), good, "{steps}");
    }
}

#[tokio::test]
async fn a_second_factor_locks_after_ten() {
    let fixture = Fixture::new();
    let ann = enrolled(&fixture, "ann").await;
    let waiting = ticket(&fixture, "ann").await;
    for wrong in 0..10 {
        // Codes and recovery codes are counted together, and a new ticket does not begin anew.
        let typed = if wrong % 2 == 0 { WRONG } else { "000000" };
        let waiting = ticket(&fixture, "ann").await;
        let refused = finish(&fixture, &waiting, typed).await;
        assert_eq!(code(refused), ErrorCode::InvalidCredentials, "{wrong}");
    }
    let locked = finish(&fixture, &waiting, &ann.code(&fixture, 0)).await;
    let locked = locked.unwrap_err();
    assert_eq!(locked.code, ErrorCode::RateLimited);
    assert_eq!(locked.retry_after, Some(Duration::from_secs(15 * 60)));
    // Neither another place where codes are asked for, nor a recovery code goes round it.
    let around = fixture.auth.reauthenticate(
        &ann.caller,
        PASSWORD.to_owned(),
        Some(ann.codes[0].clone()),
        &fixture.client,
    );
    assert_eq!(code(around.await), ErrorCode::RateLimited);
    let around = finish(&fixture, &waiting, &ann.codes[0]).await;
    assert_eq!(code(around), ErrorCode::RateLimited);

    fixture.clock.advance(Duration::from_secs(15 * 60));
    let waiting = ticket(&fixture, "ann").await;
    finish(&fixture, &waiting, &ann.code(&fixture, 0))
        .await
        .unwrap();
    let waiting = ticket(&fixture, "ann").await;
    let refused = finish(&fixture, &waiting, WRONG).await;
    assert_eq!(
        code(refused),
        ErrorCode::InvalidCredentials,
        "a right one forgives"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn guessing_codes_side_by_side_gains_nothing() {
    let fixture = Fixture::new();
    enrolled(&fixture, "ann").await;
    let waiting = ticket(&fixture, "ann").await;
    let tries = (0..40).map(|_| {
        let (auth, client) = (fixture.auth.clone(), fixture.client.clone());
        let asked = SecondFactor {
            ticket: waiting.clone(),
            code: WRONG.to_owned(),
        };
        async move { code(auth.finish_login(asked, &client).await) }
    });
    let all: tokio::task::JoinSet<_> = tries.collect();
    let all = all.join_all().await;
    let looked_at = all
        .iter()
        .filter(|code| **code == ErrorCode::InvalidCredentials);
    assert_eq!(looked_at.count(), 10);
}

#[tokio::test]
async fn a_ticket_is_single_use_and_ends() {
    let fixture = Fixture::new();
    let ann = enrolled(&fixture, "ann").await;
    let used = ticket(&fixture, "ann").await;
    finish(&fixture, &used, &ann.code(&fixture, 0))
        .await
        .unwrap();
    let again = finish(&fixture, &used, &ann.codes[0]).await;
    assert_eq!(code(again), ErrorCode::Unauthenticated);
    assert_eq!(
        fixture
            .store
            .recovery_codes_left(ann.caller.user.id)
            .unwrap(),
        10
    );

    let late = ticket(&fixture, "ann").await;
    fixture.clock.advance(Duration::from_secs(5 * 60));
    let refused = finish(&fixture, &late, &ann.code(&fixture, 0)).await;
    assert_eq!(code(refused), ErrorCode::Unauthenticated);
    let refused = finish(&fixture, "no ticket", "123456").await;
    assert_eq!(code(refused), ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn a_ticket_ends_with_the_password_and_the_account() {
    let fixture = Fixture::new();
    let ann = enrolled(&fixture, "ann").await;
    let before = ticket(&fixture, "ann").await;
    let change = fixture.auth.change_password(
        &ann.caller,
        Some(PASSWORD.to_owned()),
        "seven ferries came early".to_owned(),
        &fixture.client,
    );
    change.await.unwrap();
    let refused = finish(&fixture, &before, &ann.codes[0]).await;
    assert_eq!(code(refused), ErrorCode::Unauthenticated);

    let bob = enrolled(&fixture, "bob").await;
    let before = ticket(&fixture, "bob").await;
    let name = "bob".parse().unwrap();
    fixture.auth.set_disabled(&name, true).await.unwrap();
    let refused = finish(&fixture, &before, &bob.codes[0]).await;
    assert_eq!(code(refused), ErrorCode::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_recovery_code_is_consumed_once_by_fifty() {
    let fixture = Fixture::with(AuthConfig {
        throttle: Throttle {
            enabled: false,
            ..Throttle::default()
        },
        ..AuthConfig::insecure_for_tests()
    });
    let ann = enrolled(&fixture, "ann").await;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (auth, client) = (fixture.auth.clone(), fixture.client.clone());
        let asked = SecondFactor {
            ticket: ticket(&fixture, "ann").await,
            code: ann.codes[3].to_uppercase(),
        };
        running.spawn(async move { auth.finish_login(asked, &client).await.is_ok() });
    }
    let all = running.join_all().await;
    assert_eq!(all.iter().filter(|signed_in| **signed_in).count(), 1);
    let left = fixture.store.recovery_codes_left(ann.caller.user.id);
    assert_eq!(left.unwrap(), 9);
    let audit = fixture.audit().await;
    let used = audit
        .iter()
        .filter(|entry| *entry == "recovery_code_used ok");
    assert_eq!(used.count(), 1);
}

#[tokio::test]
async fn a_new_set_voids_the_old() {
    let fixture = Fixture::new();
    let ann = enrolled(&fixture, "ann").await;
    let new = fixture
        .auth
        .new_recovery_codes(&ann.caller, &fixture.client);
    let new = new.await.unwrap();
    let waiting = ticket(&fixture, "ann").await;
    for old in &ann.codes[..3] {
        let refused = finish(&fixture, &waiting, old).await;
        assert_eq!(code(refused), ErrorCode::InvalidCredentials);
    }
    finish(&fixture, &waiting, &new[0]).await.unwrap();
}

#[tokio::test]
async fn a_hash_grows_behind_a_second_factor_too() {
    // Codes are sealed and hashed with keys that outlast the restart.
    let folder = tempfile::tempdir().unwrap();
    let config = |hash_cost| AuthConfig {
        keys: KeySource::Directory(folder.path().to_owned()),
        hash_cost,
        ..AuthConfig::insecure_for_tests()
    };
    let cheap = Fixture::with(config(HashCost::INSECURE_FOR_TESTS));
    let ann = enrolled(&cheap, "ann").await;
    let fixture = cheap.again(config(HashCost::FLOOR));
    let hash = || {
        let account = fixture.store.account(ann.caller.user.id).unwrap();
        account.unwrap().password_hash.unwrap()
    };
    let waiting = ticket(&fixture, "ann").await;
    assert!(hash().contains("m=64,t=1"), "nobody has signed in yet");
    let now = ann.code(&fixture, 0);
    finish(&fixture, &waiting, &now).await.unwrap();
    assert!(hash().contains("m=19456,t=2"), "{}", hash());
    let waiting = ticket(&fixture, "ann").await;
    finish(&fixture, &waiting, &ann.codes[0]).await.unwrap();
}

#[tokio::test]
async fn a_secret_at_rest_is_sealed() {
    let fixture = Fixture::new();
    let ann = enrolled(&fixture, "ann").await;
    let secret = ann.app.secret().as_bytes();
    let kept = fixture.store.totp(ann.caller.user.id).unwrap().unwrap();
    let sealed = &kept.sealed_secret;
    assert!(!sealed.windows(secret.len()).any(|part| part == secret));
    // Another account's sealed secret opens nothing here.
    let bob = fixture.caller(&fixture.register("bob").await).user.id;
    fixture
        .store
        .enroll_totp(bob, sealed.clone())
        .await
        .unwrap();
    let bob = fixture.caller(&fixture.login("bob", PASSWORD).await.unwrap());
    let typed = ann.code(&fixture, 0);
    let moved = fixture.auth.confirm_totp(&bob, &typed, &fixture.client);
    assert_eq!(code(moved.await), ErrorCode::Internal);
    let everything = format!("{:?}", fixture.store.list_audit(None, 100).await.unwrap());
    for code in &ann.codes {
        assert!(!everything.contains(code.as_str()));
    }
}

#[tokio::test]
async fn a_short_password_needs_a_second_factor() {
    const SHORT: &str = "zwölf Bö";
    let fixture = Fixture::new();
    let ann = enrolled(&fixture, "ann").await;
    let auth = &fixture.auth;
    let change = async |caller: &Caller, current: &str, new: &str| {
        let (current, new) = (Some(current.to_owned()), new.to_owned());
        auth.change_password(caller, current, new, &fixture.client)
            .await
    };
    let off = async |password: Option<&str>| {
        let password = password.map(str::to_owned);
        auth.remove_totp(&ann.caller, password, &fixture.client)
            .await
    };
    assert_eq!(
        code(change(&ann.caller, PASSWORD, "seven c").await),
        ErrorCode::InvalidField
    );
    change(&ann.caller, PASSWORD, SHORT).await.unwrap();
    let missing = off(None).await.unwrap_err();
    assert_eq!(missing.field.as_deref(), Some("password"));
    assert_eq!(
        code(off(Some("another")).await),
        ErrorCode::InvalidCredentials
    );
    let short = off(Some(SHORT)).await.unwrap_err();
    assert_eq!(short.code, ErrorCode::Conflict);
    assert_eq!(short.field.as_deref(), Some("password"));
    change(&ann.caller, SHORT, PASSWORD).await.unwrap();
    off(Some(PASSWORD)).await.unwrap();
    assert_eq!(code(off(Some(PASSWORD)).await), ErrorCode::NotFound);
    fixture.login("ann", PASSWORD).await.unwrap();
    assert_eq!(
        code(change(&ann.caller, PASSWORD, SHORT).await),
        ErrorCode::InvalidField
    );
    let codes = fixture.store.recovery_codes_left(ann.caller.user.id);
    assert_eq!(codes.unwrap(), 0);
}

#[tokio::test]
async fn an_old_sign_in_changes_no_factor() {
    let fixture = Fixture::new();
    let ann = enrolled(&fixture, "ann").await;
    let bob = fixture.caller(&fixture.register("bob").await);
    fixture.clock.advance(Duration::from_secs(9 * 60 + 1));
    let recent = fixture.auth.second_factor(&ann.caller);
    assert!(recent.unwrap().enabled);
    fixture.clock.advance(Duration::from_secs(60));
    let (auth, client) = (&fixture.auth, &fixture.client);
    let refusals = [
        auth.enroll_totp(&bob, "Stack").await.err(),
        auth.confirm_totp(&bob, "123456", client).await.err(),
        auth.new_recovery_codes(&ann.caller, client).await.err(),
        auth.remove_totp(&ann.caller, Some(PASSWORD.to_owned()), client)
            .await
            .err(),
    ];
    for refused in refusals {
        let refused = refused.unwrap();
        assert_eq!(refused.code, ErrorCode::Forbidden);
        assert_eq!(refused.field.as_deref(), Some("reauthenticate"));
    }
}

#[tokio::test]
async fn showing_again_who_one_is_makes_a_sign_in_recent() {
    let fixture = Fixture::new();
    let tokens = fixture.register("bob").await;
    let ann = enrolled(&fixture, "ann").await;
    fixture.clock.advance(Duration::from_secs(8 * 60));
    let (auth, client) = (&fixture.auth, &fixture.client);
    let again = async |caller: &Caller, password: &str, code: Option<String>| {
        auth.reauthenticate(caller, password.to_owned(), code, client)
            .await
    };
    let bob = fixture.caller(&tokens);
    let wrong = again(&bob, "a wrong password here", None).await;
    assert_eq!(code(wrong), ErrorCode::InvalidCredentials);
    again(&bob, PASSWORD, None).await.unwrap();
    fixture.clock.advance(Duration::from_secs(120));
    let tokens = fixture.refresh(&tokens.refresh_token).await.unwrap();
    auth.enroll_totp(&fixture.caller(&tokens), "Stack")
        .await
        .unwrap();

    let missing = again(&ann.caller, PASSWORD, None).await.unwrap_err();
    assert_eq!(missing.field.as_deref(), Some("code"));
    let wrong = again(&ann.caller, PASSWORD, Some(WRONG.to_owned())).await;
    assert_eq!(code(wrong), ErrorCode::InvalidCredentials);
    let now = ann.code(&fixture, 0);
    again(&ann.caller, PASSWORD, Some(now.clone()))
        .await
        .unwrap();
    let replayed = again(&ann.caller, PASSWORD, Some(now)).await;
    assert_eq!(code(replayed), ErrorCode::InvalidCredentials);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_second_step_is_answered(texts in prop::collection::vec(any::<String>(), 4)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::new();
            let ann = enrolled(&fixture, "ann").await;
            let waiting = ticket(&fixture, "ann").await;
            for text in &texts {
                let refused = code(finish(&fixture, text, text).await);
                assert_eq!(refused, ErrorCode::Unauthenticated);
                let refused = code(finish(&fixture, &waiting, text).await);
                assert_eq!(refused, ErrorCode::InvalidCredentials);
            }
            finish(&fixture, &waiting, &ann.codes[0]).await.unwrap();
        });
    }
}
