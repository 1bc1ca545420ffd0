//! Nobody learns from a sign-in who has an account, and nobody has two by spelling an address twice.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::{Duration, Instant};

use stack_auth::{AuthConfig, HashCost, MakeAccount, Register, Throttle};
use stack_types::ErrorCode;

use crate::recovery::admin;
use crate::support::{Fixture, PASSWORD, code, registration};
use crate::totp::enrolled;

const WRONG: &str = "a wrong password here";
/// How often each kind of sign-in is tried at least.
const TRIES: usize = 200;
/// And at most: where the machine is busy with something else, medians need longer to settle. What really takes longer
/// does so however often it is tried.
const MOST_TRIES: usize = 1500;

/// Somebody of each kind, and what is typed for their password.
async fn people(fixture: &Fixture) -> [(&'static str, &'static str); 6] {
    fixture.register("ann").await;
    fixture.register("off").await;
    let off = "off".parse().unwrap();
    fixture.auth.set_disabled(&off, true).await.unwrap();
    fixture.without_password("key").await;
    enrolled(fixture, "two").await;
    [
        ("ann", WRONG),
        ("nobody", PASSWORD),
        ("nobody@example.org", PASSWORD),
        ("off", PASSWORD),
        ("key", PASSWORD),
        ("two", WRONG),
    ]
}

#[tokio::test]
#[ignore = "it measures time: by hand, on a quiet machine, with `cargo test -p stack-auth --test auth in_time -- --ignored`"]
async fn failed_logins_are_equal_in_time() {
    // Not the release's cost, which would take minutes here, but one that everything else vanishes beside.
    let fixture = Fixture::with(AuthConfig {
        hash_cost: HashCost::FLOOR,
        throttle: Throttle {
            enabled: false,
            ..Throttle::default()
        },
        ..AuthConfig::insecure_for_tests()
    });
    let people = people(&fixture).await;
    let mut times = people.map(|_| Vec::with_capacity(TRIES));
    let mut order: Vec<usize> = (0..people.len()).collect();
    for tries in 1..=MOST_TRIES {
        // In turn and in any order, so that what else the machine does falls on all of them alike.
        order.sort_by_cached_key(|at| RandomState::new().hash_one(at));
        for at in &order {
            let (login, password) = people[*at];
            let begun = Instant::now();
            let refused = fixture.begin_login(login, password).await;
            times[*at].push(begun.elapsed());
            assert_eq!(code(refused), ErrorCode::InvalidCredentials, "{login}");
        }
        if tries >= TRIES && tries % 50 == 0 {
            let (least, most) = medians(&times);
            if most <= least + least / 20 {
                return;
            }
        }
    }
    let told = medians(&times);
    panic!("{told:?} are more than 5 % apart after {MOST_TRIES} tries of each");
}

/// The least and the largest of the medians.
fn medians(times: &[Vec<Duration>]) -> (Duration, Duration) {
    let median = |times: &Vec<Duration>| {
        let mut times = times.clone();
        times.sort_unstable();
        times[times.len() / 2]
    };
    let medians: Vec<_> = times.iter().map(median).collect();
    (
        *medians.iter().min().unwrap(),
        *medians.iter().max().unwrap(),
    )
}

/// † GHSA-7rqj-j65f-68wh: what looks like an `@` and becomes one later is none here.
#[tokio::test]
async fn an_address_is_normalised_before_it_is_checked() {
    let fixture = Fixture::new();
    let root = admin(&fixture).await;
    let register = async |username: &str, email: &str| {
        let asked = Register {
            email: Some(email.to_owned()),
            ..registration(username, PASSWORD)
        };
        fixture.auth.register(asked, &fixture.client).await
    };
    let ann = register("ann", "\u{a0}Ann@Example.ORG\t").await.unwrap();
    assert_eq!(ann.user.email.as_deref(), Some("ann@example.org"));
    for again in ["ann@example.org", "ANN@EXAMPLE.ORG", " ann@example.org\r\n"] {
        let taken = register("bob", again).await.unwrap_err();
        assert_eq!(taken.code, ErrorCode::Conflict, "{again:?}");
        assert_eq!(taken.field.as_deref(), Some("email"));
        let make = MakeAccount {
            username: "bob".to_owned(),
            email: Some(again.to_owned()),
            display_name: None,
            role: None,
        };
        let taken = fixture
            .auth
            .make_account(&root, make, &fixture.client)
            .await;
        assert_eq!(taken.err().unwrap().field.as_deref(), Some("email"));
    }
    // What another layer would fold into an address, or into two, is none here: nothing folds it after the check.
    for trick in [
        "ann＠example.org",
        "ann@example。org",
        "ａnn@example.org",
        "ann@exampl\u{212f}.org",
        "\u{212a}ate@example.org",
        "ann@example.org,eve@example.net",
        "ann@example.org\neve@example.net",
        "\"ann@example.net\"@example.org",
        "ann@example.org\0",
        "ann\u{200b}@example.org",
        "<ann@example.org>",
    ] {
        let refused = register("bob", trick).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidField, "{trick:?}");
        assert_eq!(refused.field.as_deref(), Some("email"));
        let nobody = fixture.begin_login(trick, PASSWORD).await;
        assert_eq!(code(nobody), ErrorCode::InvalidCredentials, "{trick:?}");
    }
}
