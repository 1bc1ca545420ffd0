//! Who somebody is, as a provider tells it.

use stack_types::Username;

use crate::email::Email;
use crate::profile;

/// Subjects are short; one that is not is no subject.
const MAX_SUBJECT_BYTES: usize = 255;
const MAX_USERNAME_BYTES: usize = 32;

/// Somebody at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Who vouches for the subject.
    pub(crate) issuer: String,
    /// The account there.
    pub(crate) subject: String,
    /// Their e-mail address in its one spelling.
    pub(crate) email: Option<Email>,
    /// Whether the provider says that it is theirs.
    pub(crate) email_verified: bool,
    /// What they are called there, unchecked.
    pub(crate) username: Option<String>,
    /// What people see of them there, unchecked.
    pub(crate) display_name: Option<String>,
}

impl Identity {
    /// Whether the subject can be one.
    pub(crate) fn is_well_formed(&self) -> bool {
        let subject = &self.subject;
        (1..=MAX_SUBJECT_BYTES).contains(&subject.len()) && !subject.chars().any(char::is_control)
    }

    /// The address, if the provider vouches for it.
    pub(crate) fn verified_email(&self) -> Option<&Email> {
        self.email.as_ref().filter(|_| self.email_verified)
    }

    /// A username that is like what they are called there.
    pub(crate) fn username_like(&self) -> Option<Username> {
        let local = self.email.as_ref().map(|email| {
            let text = email.as_str();
            text.split_once('@').map_or(text, |(local, _)| local)
        });
        let candidates = [
            self.username.as_deref(),
            self.display_name.as_deref(),
            local,
        ];
        let mut names = candidates.into_iter().flatten().filter_map(username_from);
        names.next().or_else(|| "user".parse().ok())
    }

    /// What people see of them here; `None` for what cannot be shown.
    pub(crate) fn shown_name(&self) -> Option<String> {
        let name = self.display_name.as_deref()?;
        let short: String = name.trim().chars().take(64).collect();
        profile::display_name(&short).ok()
    }
}

/// The same name with something random behind it.
pub(crate) fn with_suffix(name: &Username, suffix: u32) -> Option<Username> {
    let suffix = format!("-{suffix:04}");
    let room = MAX_USERNAME_BYTES - suffix.len();
    let mut stem = name.as_str();
    stem = &stem[..stem.len().min(room)];
    format!("{stem}{suffix}").parse().ok()
}

/// What of a name can stand in a username: letters and digits, and what stands between them.
fn username_from(name: &str) -> Option<Username> {
    let folded = name.trim().to_ascii_lowercase();
    let mut out = String::with_capacity(MAX_USERNAME_BYTES);
    for character in folded.chars() {
        if out.len() == MAX_USERNAME_BYTES {
            break;
        }
        match character {
            'a'..='z' | '0'..='9' => out.push(character),
            '.' | '_' | '-' if !out.is_empty() => out.push(character),
            ' ' if !out.is_empty() => out.push('.'),
            _ => {}
        }
    }
    out.trim_end_matches(['.', '_', '-']).parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn somebody() -> Identity {
        Identity {
            issuer: "https://id.example".to_owned(),
            subject: "1".to_owned(),
            email: Email::parse("ann.smith@example.org"),
            email_verified: true,
            username: None,
            display_name: None,
        }
    }

    #[test]
    fn a_username_is_like_the_one_there() {
        for (there, here) in [
            ("Ann", "ann"),
            ("Ann Smith", "ann.smith"),
            ("-ann-", "ann"),
            ("änn", "nn"),
            ("李", "ann.smith"),
            ("a", "ann.smith"),
            ("", "ann.smith"),
        ] {
            let identity = Identity {
                username: Some(there.to_owned()),
                ..somebody()
            };
            assert_eq!(identity.username_like().unwrap().as_str(), here, "{there}");
        }
        let nobody = Identity {
            email: None,
            ..somebody()
        };
        assert_eq!(nobody.username_like().unwrap().as_str(), "user");
        let long: Username = "a".repeat(32).parse().unwrap();
        assert_eq!(
            with_suffix(&long, 7).unwrap().as_str(),
            format!("{}-0007", "a".repeat(27))
        );
    }

    proptest! {
        #[test]
        fn any_name_is_answered(name in any::<String>(), subject in any::<String>(), suffix in 0u32..10_000) {
            let identity = Identity {
                subject,
                username: Some(name.clone()),
                display_name: Some(name),
                ..somebody()
            };
            let username = identity.username_like().unwrap();
            prop_assert!(with_suffix(&username, suffix).is_some());
            identity.shown_name();
            identity.is_well_formed();
        }
    }
}
