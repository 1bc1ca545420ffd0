//! What a new password has to be. A password that is there is only ever verified, never judged again.

use stack_types::Problem;

/// NIST SP 800-63B: the least length of a password that is the only factor, in code points.
pub const MIN_CHARS: usize = 15;
/// The least length of one that a second factor stands behind.
const MIN_CHARS_WITH_FACTOR: usize = 8;
/// The most bytes that are hashed, so that nobody can make the hash wait for a megabyte.
const MAX_BYTES: usize = 1024;
/// Fewer guesses than this and the password is a common one, a repetition, a run of keys, or one of these with a few
/// digits behind it: those end below 150 000, and phrases of three ordinary words begin at a hundred million.
const MIN_GUESSES: u64 = 1_000_000;

/// Checks the length of a new password. Cheap; done before a place in the hashing queue is taken.
pub(crate) fn check_length(
    field: &'static str,
    password: &str,
    second_factor: bool,
) -> Result<(), Problem> {
    if password.len() > MAX_BYTES {
        return Err(Problem::invalid_field(
            field,
            "a password is at most 1024 bytes",
        ));
    }
    let least = min_chars(second_factor);
    if password.chars().count() < least {
        return Err(Problem::invalid_field(
            field,
            format!("a password has at least {least} characters"),
        ));
    }
    Ok(())
}

/// The least length of a password, in code points.
pub(crate) fn min_chars(second_factor: bool) -> usize {
    match second_factor {
        true => MIN_CHARS_WITH_FACTOR,
        false => MIN_CHARS,
    }
}

/// Whether a password is too short to be the only factor.
pub(crate) fn needs_second_factor(password: &str) -> bool {
    password.chars().count() < MIN_CHARS
}

/// Whether a password that was typed at login can be one at all; the answer to one that cannot is the same as to
/// a wrong one.
pub(crate) fn is_hashable(password: &str) -> bool {
    password.len() <= MAX_BYTES
}

/// Refuses the most common passwords, and ones made of the person's own names. Takes milliseconds, however long the
/// password is, since zxcvbn looks at its first hundred characters only; runs with the hashing, off the async threads.
pub(crate) fn is_common(password: &str, own_names: &[&str]) -> bool {
    zxcvbn::zxcvbn(password, own_names).guesses() < MIN_GUESSES
}

/// The answer to a common password.
pub(crate) fn too_common(field: &'static str) -> Problem {
    Problem::invalid_field(field, "this password is too easy to guess")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn length_counts_characters_and_is_capped_in_bytes() {
        let check = |password: &str, factor| check_length("password", password, factor);
        assert!(check(&"a".repeat(14), false).is_err());
        assert!(check(&"ä".repeat(15), false).is_ok());
        assert!(check(&"a".repeat(1024), false).is_ok());
        let problem = check(&"a".repeat(1025), false).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("password"));
        assert!(check(&"a".repeat(7), true).is_err());
        assert!(check(&"ä".repeat(8), true).is_ok());
        assert!(needs_second_factor(&"ä".repeat(14)) && !needs_second_factor(&"a".repeat(15)));
    }

    #[test]
    fn common_ones_are_refused_and_long_phrases_are_not() {
        for common in [
            "aaaaaaaaaaaaaaaa",
            "passwordpassword",
            "abcdefghijklmnopq",
            "ann.mustermann",
        ] {
            assert!(is_common(common, &["ann.mustermann"]), "{common}");
        }
        for fine in [
            "correct horse battery staple",
            "three trains left late",
            "Zwölf Boxkämpfer jagen",
        ] {
            assert!(!is_common(fine, &["ann"]), "{fine}");
        }
    }

    #[test]
    fn keyboard_runs_and_greetings_with_a_digit_are_common() {
        for common in [
            "123456789012345",
            "letmeinletmein1",
            "qwertyuiopasdfg",
            "qwertyuiop12345",
            "qwerty123456789",
            "password1234567",
            "welcomewelcome1",
            "testpassword123",
        ] {
            assert!(is_common(common, &["ann"]), "{common}");
        }
        for fine in [
            "a long enough password",
            "correct-horse-battery",
            "alice-password-0123",
            "password-for-alice-1",
            "hunter2-hunter2-hunter2",
            "SuperSecretPassw0rd!",
            "integration-test-password",
        ] {
            assert!(!is_common(fine, &["alice"]), "{fine}");
        }
    }

    #[test]
    fn no_more_than_a_hundred_characters_are_judged() {
        let beginning = "ä".repeat(100);
        let judged = |end: &str| zxcvbn::zxcvbn(&format!("{beginning}{end}"), &[]).guesses();
        assert_eq!(judged("three trains left late"), judged(""));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_password_is_answered(password in any::<String>(), name in any::<String>()) {
            let _ = check_length("password", &password, name.is_empty());
            let _ = is_common(&password, &[&name]);
        }
    }
}
