//! E-mail addresses: one spelling for each, made before anything is decided by it.
//!
//! An address is trimmed and folded to lower case first and judged after, so that two spellings of one address
//! are never two accounts. For the same reason letters beyond ASCII are refused: they have several encodings
//! and look-alikes. A domain with such letters is written in its ASCII form (`xn--…`).

use stack_types::Problem;

/// RFC 5321: what a mail server has to accept at most.
const MAX_BYTES: usize = 254;
const MAX_LOCAL_BYTES: usize = 64;
const MAX_LABEL_BYTES: usize = 63;

/// An e-mail address in its one spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Email(String);

impl Email {
    /// The address that a person typed.
    pub(crate) fn parse(typed: &str) -> Option<Self> {
        let trimmed = typed.trim();
        if trimmed.len() > MAX_BYTES {
            return None;
        }
        let folded = trimmed.to_ascii_lowercase();
        let (local, domain) = folded.rsplit_once('@')?;
        (is_local(local) && is_domain(domain)).then_some(Self(folded))
    }

    /// The address of a request's field `email`.
    pub(crate) fn from_field(typed: &str) -> Result<Self, Problem> {
        Self::parse(typed)
            .ok_or_else(|| Problem::invalid_field("email", "this is not an e-mail address"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

fn is_local(local: &str) -> bool {
    // The unquoted characters of RFC 5322; quoted local parts exist on paper only.
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte);
    !local.is_empty()
        && local.len() <= MAX_LOCAL_BYTES
        && local.bytes().all(sane)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
}

fn is_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL_BYTES).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.contains('.') && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_address_are_one() {
        let one = Email::parse("ann@example.org").unwrap();
        for typed in [
            " ann@example.org",
            "Ann@Example.ORG\n",
            "\tANN@EXAMPLE.ORG ",
        ] {
            assert_eq!(Email::parse(typed).as_ref(), Some(&one), "{typed:?}");
        }
        assert!(Email::parse("o'neil+chat@mail.example.co.uk").is_some());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@example.org", "a".repeat(65));
        for typed in [
            "",
            "@",
            "ann",
            "ann@",
            "@example.org",
            "ann@example",
            "a b@example.org",
            "ann@exa mple.org",
            "a@b@example.org",
            ".ann@example.org",
            "ann.@example.org",
            "a..n@example.org",
            "ann@-example.org",
            "ann@example-.org",
            "ann@example..org",
            "ann@example.org.",
            "änn@example.org",
            "ann@exämple.org",
            "ann@example.org\0",
            "\"ann\"@example.org",
            long.as_str(),
        ] {
            assert_eq!(Email::parse(typed), None, "{typed:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_settles(typed in any::<String>()) {
            if let Some(email) = Email::parse(&typed) {
                prop_assert_eq!(Email::parse(&email.0), Some(email));
            }
        }

        #[test]
        fn case_and_space_do_not_matter(local in "[a-zA-Z0-9+_]{1,64}", domain in "[a-zA-Z0-9]{1,20}\\.[a-z]{2,5}") {
            let typed = format!("{local}@{domain}");
            let email = Email::parse(&typed);
            prop_assert!(email.is_some());
            prop_assert_eq!(Email::parse(&format!("  {} ", typed.to_uppercase())), email);
        }
    }
}
