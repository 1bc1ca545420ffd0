//! Passkeys, as the library knows them: what a browser is asked, what it answers, and what is remembered between the
//! two. Nothing here touches the store.
//!
//! - The person is always verified by the authenticator, so that a passkey is two factors in one.
//! - Attestation is not asked for: which device somebody uses is theirs to know.
//! - A sign-in knows of no passkey until it is answered. One by name and one without are the same question; the first
//!   merely lists credentials, true ones or made-up ones.

mod decoys;
mod state;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};
use stack_storage::{Passkey as StoredPasskey, WebauthnHandle};
use stack_types::Problem;
use url::{Host, Url};
use webauthn_rs::prelude::{
    CredentialID, DiscoverableAuthentication, DiscoverableKey, Passkey, PasskeyRegistration,
    PublicKeyCredential, RegisterPublicKeyCredential, Uuid, Webauthn, WebauthnBuilder,
    WebauthnError,
};

use crate::config::AuthError;
use crate::secret;

pub(crate) use decoys::{MOST_LISTED, decoys};
pub(crate) use state::{Asked, Asking, Making, NewFor, NewPerson, Who, binding_of};

/// How long a browser may take to answer; it is told, and the state is remembered for as long.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(5 * 60);

/// Where passkeys belong to.
#[derive(Debug, Clone)]
pub struct PasskeyConfig {
    /// The origin under which browsers know the gateway. Its host is what passkeys are bound to.
    pub origin: String,
    /// What the person is told that a passkey is for.
    pub site_name: String,
}

/// Why there are no passkeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasskeysOff {
    /// The gateway is reached by a bare IP address, which passkeys cannot be bound to.
    IpAddress,
    /// No origin is configured.
    NoOrigin,
}

impl PasskeysOff {
    /// The name in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IpAddress => "ip_address",
            Self::NoOrigin => "no_origin",
        }
    }
}

/// The library, set up for one site.
pub(crate) struct Passkeys {
    webauthn: Webauthn,
    rp_id: String,
    origin: String,
}

/// What a browser answered to a request for a passkey, before anything in it is believed.
pub(crate) struct Assertion(PublicKeyCredential);

/// An answer that was verified.
pub(crate) struct Verified {
    /// The library's record of the passkey, with its new counter and flags.
    pub(crate) updated: String,
}

/// Why an answer was refused.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Its counter did not go on: there is a copy of the passkey.
    Copied,
    /// It is wrong.
    Wrong(WebauthnError),
}

/// A passkey that a browser has made.
pub(crate) struct Made {
    pub(crate) credential_id: Vec<u8>,
    pub(crate) record: String,
}

impl Passkeys {
    /// The library for this site; why not, when there can be no passkeys.
    ///
    /// # Errors
    /// The origin is none.
    pub(crate) fn new(config: &PasskeyConfig) -> Result<Result<Self, PasskeysOff>, AuthError> {
        let fault = |_| AuthError::Config("passkeys need an origin with a host");
        let origin = Url::parse(&config.origin).map_err(fault)?;
        let rp_id = match origin.host() {
            Some(Host::Domain(host)) => host.to_owned(),
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => return Ok(Err(PasskeysOff::IpAddress)),
            None => return Err(AuthError::Config("passkeys need an origin with a host")),
        };
        let webauthn = WebauthnBuilder::new(&rp_id, &origin)
            .map(|builder| builder.rp_name(&config.site_name).timeout(ANSWER_WITHIN))
            .and_then(WebauthnBuilder::build)
            .map_err(|_| AuthError::Config("passkeys cannot be bound to the public URL"))?;
        Ok(Ok(Self {
            webauthn,
            rp_id,
            origin: config.origin.clone(),
        }))
    }

    /// What passkeys are bound to.
    pub(crate) fn rp_id(&self) -> &str {
        &self.rp_id
    }

    /// The origin that answers must come from.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Asks for a new passkey: the `publicKey` member of the options, and what to remember.
    pub(crate) fn ask_for_new(
        &self,
        handle: WebauthnHandle,
        username: &str,
        display_name: &str,
        known: Vec<CredentialID>,
    ) -> Result<(Value, PasskeyRegistration), Problem> {
        let (options, state) = self
            .webauthn
            .start_passkey_registration(
                Uuid::from_bytes(handle),
                username,
                display_name,
                Some(known),
            )
            .map_err(Problem::internal)?;
        let mut options = serde_json::to_value(options.public_key).map_err(Problem::internal)?;
        // The library discourages keys that an authenticator finds by itself, which are what one button and autofill
        // need. What the browser made of the wish is not checked at the end, so that it can be changed here.
        options["authenticatorSelection"]["residentKey"] = json!("preferred");
        options["authenticatorSelection"]["requireResidentKey"] = json!(false);
        options["attestation"] = json!("none");
        Ok((options, state))
    }

    /// Looks at a new passkey.
    ///
    /// # Errors
    /// `invalid_field`.
    pub(crate) fn look_at_new(
        &self,
        answer: Value,
        state: &PasskeyRegistration,
    ) -> Result<Made, Problem> {
        let answer: RegisterPublicKeyCredential = serde_json::from_value(answer)
            .map_err(|_| not_credential("this is no answer of an authenticator"))?;
        let made = self
            .webauthn
            .finish_passkey_registration(&answer, state)
            .map_err(|error| match error {
                WebauthnError::UserNotVerified => {
                    not_credential("the authenticator has not checked who you are")
                }
                error => {
                    tracing::debug!(%error, "a new passkey was refused");
                    not_credential("the passkey cannot be verified")
                }
            })?;
        Ok(Made {
            credential_id: made.cred_id().to_vec(),
            record: to_record(&made)?,
        })
    }

    /// Asks for a passkey, one of these if any are listed: the `publicKey` member of the options, and what to remember.
    pub(crate) fn ask(
        &self,
        listed: &[Vec<u8>],
    ) -> Result<(Value, DiscoverableAuthentication), Problem> {
        let (options, state) = self
            .webauthn
            .start_discoverable_authentication()
            .map_err(Problem::internal)?;
        // The library's `mediation` stands beside this member; who asks says whether it is a conditional request.
        let mut options = serde_json::to_value(options.public_key).map_err(Problem::internal)?;
        // How a passkey is reached is not told, since decoys cannot say it either.
        options["allowCredentials"] = listed
            .iter()
            .map(|id| json!({ "type": "public-key", "id": secret::to_text(id) }))
            .collect();
        Ok((options, state))
    }

    /// Verifies an answer against a passkey.
    pub(crate) fn verify(
        &self,
        answer: &Assertion,
        state: DiscoverableAuthentication,
        passkey: &StoredPasskey,
    ) -> Result<Result<Verified, Refused>, Problem> {
        let mut known: Passkey =
            serde_json::from_str(&passkey.credential).map_err(Problem::internal)?;
        let key = DiscoverableKey::from(&known);
        let webauthn = &self.webauthn;
        let result = match webauthn.finish_discoverable_authentication_v2(&answer.0, state, &key) {
            Ok(result) => result,
            Err(WebauthnError::CredentialPossibleCompromise) => return Ok(Err(Refused::Copied)),
            Err(error) => return Ok(Err(Refused::Wrong(error))),
        };
        // What has not changed stays as it stands, letter by letter: the store compares it.
        let updated = match known.update_credential(&result) {
            Some(true) => to_record(&known)?,
            _ => passkey.credential.clone(),
        };
        Ok(Ok(Verified { updated }))
    }
}

impl Assertion {
    /// Reads an answer; `None` when it is none.
    pub(crate) fn read(answer: Value) -> Option<Self> {
        serde_json::from_value(answer).ok().map(Self)
    }

    /// Which passkey it says it is of.
    pub(crate) fn credential_id(&self) -> &[u8] {
        self.0.get_credential_id()
    }

    /// Whom the authenticator takes its owner for; `None` when it does not say.
    ///
    /// # Errors
    /// It says something that is no handle of ours.
    pub(crate) fn handle(&self) -> Result<Option<WebauthnHandle>, NoHandle> {
        match self.0.get_user_unique_id() {
            // Some browsers send an empty one for a key that does not know.
            None | Some([]) => Ok(None),
            Some(bytes) => bytes.try_into().map(Some).map_err(|_| NoHandle),
        }
    }
}

/// A handle that is none of ours.
pub(crate) struct NoHandle;

/// What the browser signs beside the authenticator's data, as far as it says which question it answers.
#[derive(Deserialize)]
struct ClientData {
    challenge: String,
}

/// The random bytes of a question, from the options that ask it; `None` when they are not as many as of any secret.
pub(crate) fn challenge_of(options: &Value) -> Option<[u8; secret::SECRET_BYTES]> {
    secret::from_text(options["challenge"].as_str()?)
}

/// The question that an answer says it is to. Nothing of it is verified.
pub(crate) fn challenge_in(answer: &Value) -> Option<[u8; secret::SECRET_BYTES]> {
    let text = answer.get("response")?.get("clientDataJSON")?.as_str()?;
    let data = URL_SAFE_NO_PAD.decode(text).ok()?;
    let data: ClientData = serde_json::from_slice(&data).ok()?;
    secret::from_text(&data.challenge)
}

/// Whether a passkey is also kept elsewhere than in the device.
pub(crate) fn is_backed_up(passkey: &StoredPasskey) -> Result<bool, Problem> {
    let known: Passkey = serde_json::from_str(&passkey.credential).map_err(Problem::internal)?;
    Ok(webauthn_rs::prelude::Credential::from(known).backup_state)
}

fn to_record(passkey: &Passkey) -> Result<String, Problem> {
    serde_json::to_string(passkey).map_err(Problem::internal)
}

pub(crate) fn not_credential(detail: &'static str) -> Problem {
    Problem::invalid_field("credential", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passkeys(origin: &str) -> Result<Result<Passkeys, PasskeysOff>, AuthError> {
        Passkeys::new(&PasskeyConfig {
            origin: origin.to_owned(),
            site_name: "Stack".to_owned(),
        })
    }

    #[test]
    fn passkeys_are_off_on_an_ip_address() {
        for origin in [
            "http://127.0.0.1:8080",
            "https://[2001:db8::1]",
            "https://192.0.2.1",
        ] {
            let off = passkeys(origin).unwrap().err();
            assert_eq!(off, Some(PasskeysOff::IpAddress), "{origin}");
        }
        for (origin, rp_id) in [
            ("http://localhost:8080", "localhost"),
            ("https://chat.example", "chat.example"),
        ] {
            assert_eq!(passkeys(origin).unwrap().ok().unwrap().rp_id(), rp_id);
        }
        assert!(passkeys("nonsense").is_err());
    }

    #[test]
    fn resident_keys_are_preferred() {
        let passkeys = passkeys("https://chat.example").unwrap().ok().unwrap();
        let (options, _) = passkeys
            .ask_for_new([7; 16], "ann", "Ann", vec![vec![1, 2, 3]])
            .unwrap();
        let wishes = &options["authenticatorSelection"];
        assert_eq!(wishes["residentKey"], "preferred", "{options}");
        assert_eq!(wishes["requireResidentKey"], false);
        assert_eq!(wishes["userVerification"], "required");
        assert_eq!(options["attestation"], "none");
        assert_eq!(options["excludeCredentials"][0]["id"], "AQID");
        assert_eq!(options["rp"]["id"], "chat.example");
    }

    #[test]
    fn a_request_wants_the_person_verified() {
        let passkeys = passkeys("https://chat.example").unwrap().ok().unwrap();
        let (options, _) = passkeys.ask(&[]).unwrap();
        assert_eq!(options["userVerification"], "required");
        assert_eq!(options["rpId"], "chat.example");
        assert_eq!(options["allowCredentials"], json!([]));
    }

    #[test]
    fn questions_are_as_random_as_any_secret() {
        let passkeys = passkeys("https://chat.example").unwrap().ok().unwrap();
        let (new, _) = passkeys.ask_for_new([7; 16], "ann", "Ann", vec![]).unwrap();
        let (one, _) = passkeys.ask(&[]).unwrap();
        let (other, _) = passkeys.ask(&[]).unwrap();
        for options in [&new, &one, &other] {
            assert!(challenge_of(options).is_some(), "{options}");
        }
        assert_ne!(one["challenge"], other["challenge"]);
    }
}
