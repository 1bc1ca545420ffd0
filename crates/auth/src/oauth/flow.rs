//! What is remembered while somebody is at a provider.

use serde::{Deserialize, Serialize};
use stack_types::{SessionId, Timestamp, UserId};

use crate::secret;

/// What somebody went to a provider for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "intent")]
pub(crate) enum Intent {
    /// To sign in, or to make an account.
    SignIn,
    /// To link the account there to this one here.
    Link { user: UserId, session: SessionId },
    /// To show again who they are.
    Reauthenticate { user: UserId, session: SessionId },
}

/// A sign-in that was begun.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// At which provider.
    pub(crate) provider: String,
    /// Shows to the provider that who began is who brings the code.
    pub(crate) pkce_verifier: String,
    /// What the ID token must repeat.
    pub(crate) nonce: Option<String>,
    /// Of the browser's cookie.
    pub(crate) binding: String,
    /// What for.
    pub(crate) intent: Intent,
    /// Where the browser goes afterwards.
    pub(crate) return_to: String,
    /// The invitation that an account may be made with.
    pub(crate) invite: Option<String>,
    /// When.
    pub(crate) begun_at: Timestamp,
}

/// What is kept of a browser's cookie.
pub(crate) fn binding_of(browser: &str) -> String {
    secret::to_text(&secret::fingerprint(browser.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_state_reads_back() {
        let now = Timestamp(1_700_000_000_000);
        let (user, session) = (UserId::generate(now), SessionId::generate(now));
        for intent in [
            Intent::SignIn,
            Intent::Link { user, session },
            Intent::Reauthenticate { user, session },
        ] {
            let pending = Pending {
                provider: "one".to_owned(),
                pkce_verifier: "v".to_owned(),
                nonce: Some("n".to_owned()),
                binding: binding_of("b"),
                intent,
                return_to: "/".to_owned(),
                invite: None,
                begun_at: now,
            };
            let text = serde_json::to_string(&pending).unwrap();
            assert!(serde_json::from_str::<Pending>(&text).unwrap() == pending);
        }
    }

    proptest! {
        #[test]
        fn any_state_is_answered(text in any::<String>()) {
            let _ = serde_json::from_str::<Pending>(&text);
        }
    }
}
