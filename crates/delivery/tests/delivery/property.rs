//! Random cases with seeds that a person can repeat.
//!
//! `STACK_TEST_CASES` says how many, for long runs by hand, and `STACK_TEST_SEED` which: the cases of a run have
//! consecutive seeds. A failure names the seed of its case.

use std::hash::{BuildHasher, RandomState};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// How often a failure is tried again with less, before it is told.
const SHRINKS: u32 = 400;
/// … and for how long, since a case may fail by waiting in vain.
const SHRINKING_MS: u32 = 60_000;

/// Plays so many cases, unless the environment wants more or others. `play` gets the seed and panics when a case
/// fails.
pub(crate) fn check<S: Strategy>(cases: u64, strategy: &S, play: impl Fn(u64, S::Value)) {
    let cases = from_environment("STACK_TEST_CASES").unwrap_or(cases);
    let first = from_environment("STACK_TEST_SEED")
        .unwrap_or_else(|| RandomState::new().hash_one("seed") >> 32);
    println!("STACK_TEST_SEED={first} STACK_TEST_CASES={cases}");
    for seed in first..first + cases {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = Config {
            cases: 1,
            failure_persistence: None,
            max_shrink_iters: SHRINKS,
            max_shrink_time: SHRINKING_MS,
            ..Config::default()
        };
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let played = TestRunner::new_with_rng(config, random).run(strategy, |case| {
            play(seed, case);
            Ok(())
        });
        if let Err(failure) = played {
            panic!("STACK_TEST_SEED={seed} STACK_TEST_CASES=1 repeats this: {failure}");
        }
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap())
}
