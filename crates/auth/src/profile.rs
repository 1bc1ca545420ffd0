//! What people may call themselves and keep, and how accounts and sessions are shown to their owner.

use serde::Serialize;
use serde_json::value::RawValue;
use stack_storage::{Account, Session};
use stack_types::{GlobalRole, JsonValue, Problem, SessionId, Timestamp, User, UserId, Username};

const MAX_DISPLAY_NAME_CHARS: usize = 64;
const MAX_SETTINGS_BYTES: usize = 16 * 1024;

/// An account as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of `User` and `Account`")]
pub struct OwnUser {
    pub id: UserId,
    pub username: Username,
    pub display_name: String,
    pub role: GlobalRole,
    pub created_at: Timestamp,
    pub email: Option<String>,
}

impl From<Account> for OwnUser {
    fn from(account: Account) -> Self {
        let User {
            id,
            username,
            display_name,
            role,
            created_at,
        } = account.user;
        Self {
            id,
            username,
            display_name,
            role,
            created_at,
            email: account.email,
        }
    }
}

/// An account as its owner sees it, with the settings it keeps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Me {
    /// The account.
    #[serde(flatten)]
    pub user: OwnUser,
    /// A JSON object that only the owner's clients understand.
    pub settings: JsonValue,
}

impl Me {
    pub(crate) fn new(account: Account, settings: String) -> Result<Self, Problem> {
        Ok(Self {
            user: account.into(),
            settings: JsonValue(RawValue::from_string(settings).map_err(Problem::internal)?),
        })
    }
}

/// A change of one's own profile; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct ProfileUpdate {
    /// 1 to 64 characters.
    pub display_name: Option<String>,
    /// A JSON object of at most 16 KiB, which replaces the one before.
    pub settings: Option<JsonValue>,
}

/// A session as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// What the client calls itself.
    pub device: String,
    /// From where it signed in or refreshed last.
    pub ip: String,
    /// When it signed in.
    pub created_at: Timestamp,
    /// When it was last heard of, to the minute.
    pub last_seen_at: Timestamp,
    /// Whether it is the one that asks.
    pub current: bool,
}

impl SessionView {
    pub(crate) fn new(session: Session, asking: SessionId) -> Self {
        let current = session.id == asking;
        Self {
            current,
            ..Self::of_another(session)
        }
    }

    /// The session as somebody sees it who does not ask in one of the same owner.
    pub(crate) fn of_another(session: Session) -> Self {
        Self {
            current: false,
            id: session.id,
            device: session.device,
            ip: session.ip,
            created_at: session.created_at,
            last_seen_at: session.last_seen_at,
        }
    }
}

/// The name that people will see: not empty to the eye, and nothing in it that changes the text around it.
pub(crate) fn display_name(typed: &str) -> Result<String, Problem> {
    let name = typed.trim();
    let invisible = |c: char| {
        c.is_whitespace() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
    };
    let unruly = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if name.chars().all(invisible) {
        return Err(Problem::invalid_field(
            "display_name",
            "a display name is not empty",
        ));
    }
    if name.chars().count() > MAX_DISPLAY_NAME_CHARS {
        return Err(Problem::invalid_field(
            "display_name",
            "a display name has at most 64 characters",
        ));
    }
    if name.chars().any(unruly) {
        return Err(Problem::invalid_field(
            "display_name",
            "a display name holds no control characters",
        ));
    }
    Ok(name.to_owned())
}

/// The text of a settings object.
pub(crate) fn settings(value: &JsonValue) -> Result<String, Problem> {
    let text = value.as_str();
    if text.len() > MAX_SETTINGS_BYTES {
        return Err(Problem::invalid_field(
            "settings",
            "settings are at most 16 KiB",
        ));
    }
    // A raw value is well-formed JSON without space around it, so that its first byte says what it is.
    if !text.starts_with('{') {
        return Err(Problem::invalid_field(
            "settings",
            "settings are a JSON object",
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(text: &str) -> JsonValue {
        JsonValue(RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn display_names_are_visible_and_tame() {
        assert_eq!(display_name("  Ann Beth ").unwrap(), "Ann Beth");
        assert!(display_name("👩‍💻").is_ok());
        assert!(display_name(&"ä".repeat(64)).is_ok());
        for bad in [
            "",
            "  ",
            "\u{200b}\u{200b}",
            "a\nb",
            "a\0",
            "\u{202e}nna",
            "a\u{2028}b",
        ] {
            assert_eq!(
                display_name(bad).unwrap_err().field.as_deref(),
                Some("display_name"),
                "{bad:?}"
            );
        }
        assert!(display_name(&"a".repeat(65)).is_err());
    }

    #[test]
    fn settings_are_an_object_of_some_size() {
        assert_eq!(settings(&json(" {\"a\":[1]} ")).unwrap(), "{\"a\":[1]}");
        for bad in ["[]", "null", "1", "\"{}\""] {
            assert!(settings(&json(bad)).is_err(), "{bad}");
        }
        let object = |bytes: usize| json(&format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8)));
        assert!(settings(&object(MAX_SETTINGS_BYTES)).is_ok());
        assert!(settings(&object(MAX_SETTINGS_BYTES + 1)).is_err());
    }

    proptest! {
        #[test]
        fn any_name_is_answered(typed in any::<String>()) {
            if let Ok(name) = display_name(&typed) {
                prop_assert_eq!(display_name(&name).unwrap(), name);
            }
        }
    }
}
