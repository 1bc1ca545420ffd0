//! What is remembered between asking a browser and its answer, as JSON. It says what the answer is for: an answer to
//! one question is none to another.

use serde::{Deserialize, Serialize};
use stack_storage::WebauthnHandle;
use stack_types::{SessionId, UserId, Username};
use webauthn_rs::prelude::{DiscoverableAuthentication, PasskeyRegistration};

use crate::secret;

/// A passkey that is being made.
#[derive(Serialize, Deserialize)]
pub(crate) struct Making {
    pub(crate) what: NewFor,
    /// The browser that asked.
    pub(crate) browser: Option<String>,
    pub(crate) state: PasskeyRegistration,
}

/// What a passkey is made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NewFor {
    /// An account that exists, by somebody in this session.
    Account { user: UserId, session: SessionId },
    /// An account that is made with it.
    SignUp {
        person: NewPerson,
        /// The text of an invitation.
        invite: Option<String>,
    },
    /// The first admin, by whoever showed the setup token of this fingerprint.
    Setup { person: NewPerson, token: String },
}

/// Somebody whose account is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewPerson {
    pub(crate) username: Username,
    pub(crate) display_name: String,
    pub(crate) email: Option<String>,
    pub(crate) handle: WebauthnHandle,
}

/// A passkey that is asked for.
#[derive(Serialize, Deserialize)]
pub(crate) struct Asking {
    pub(crate) what: Asked,
    /// The browser that asked.
    pub(crate) browser: Option<String>,
    pub(crate) state: DiscoverableAuthentication,
}

/// What a passkey is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Asked {
    /// Signing in.
    SignIn(Who),
    /// Showing again who somebody in a session is.
    Reauthenticate { user: UserId, session: SessionId },
}

/// Whose passkey it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Who {
    /// Whoever the authenticator says.
    Anybody,
    /// This account's.
    Account(UserId),
    /// Nobody's: decoys were listed.
    Nobody,
}

/// What is remembered of a browser's secret.
pub(crate) fn binding_of(browser: Option<&str>) -> Option<String> {
    browser.map(|secret| secret::to_text(&secret::fingerprint(secret.as_bytes())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_answered(text in any::<String>()) {
            prop_assert!(serde_json::from_str::<Making>(&text).is_err());
            prop_assert!(serde_json::from_str::<Asking>(&text).is_err());
        }
    }
}
