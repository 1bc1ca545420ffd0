//! What stands in a path: ids and numbers. Text that cannot be an id names nothing that exists, and is not found.

use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use stack_types::{ApiKeyId, InviteId, LinkId, PasskeyId, Problem, RoomId, Seq, SessionId, UserId};

use super::problem::{ApiError, ApiResult};
use crate::app::AppState;

/// The one thing of this kind in the path; each kind has its own parameter name.
pub(crate) struct InPath<T>(pub(crate) T);

/// A kind of thing that stands in paths.
pub(crate) trait PathParam: Sized {
    /// What the routes call it.
    const NAME: &'static str;

    /// Reads it.
    fn read(text: &str) -> Result<Self, Problem>;
}

/// A reaction, as text; the room says what may be one.
pub(crate) struct Emoji(pub(crate) String);

/// The key of a long-term counter.
pub(crate) struct CounterKey(pub(crate) String);

impl PathParam for RoomId {
    const NAME: &'static str = "room";

    fn read(text: &str) -> Result<Self, Problem> {
        id(text, "there is no such room")
    }
}

impl PathParam for UserId {
    const NAME: &'static str = "user_id";

    fn read(text: &str) -> Result<Self, Problem> {
        id(text, "there is no such user")
    }
}

impl PathParam for SessionId {
    const NAME: &'static str = "session_id";

    fn read(text: &str) -> Result<Self, Problem> {
        id(text, "there is no such session")
    }
}

impl PathParam for PasskeyId {
    const NAME: &'static str = "passkey_id";

    fn read(text: &str) -> Result<Self, Problem> {
        id(text, "you have no such passkey")
    }
}

impl PathParam for InviteId {
    const NAME: &'static str = "invite_id";

    fn read(text: &str) -> Result<Self, Problem> {
        id(text, "there is no such invitation")
    }
}

impl PathParam for ApiKeyId {
    const NAME: &'static str = "key_id";

    fn read(text: &str) -> Result<Self, Problem> {
        id(text, "there is no such API key")
    }
}

/// What an identity provider is called.
pub(crate) struct ProviderName(pub(crate) String);

impl PathParam for ProviderName {
    const NAME: &'static str = "provider";

    fn read(text: &str) -> Result<Self, Problem> {
        Ok(Self(text.to_owned()))
    }
}

impl PathParam for LinkId {
    const NAME: &'static str = "link_id";

    fn read(text: &str) -> Result<Self, Problem> {
        id(text, "you have linked no such account")
    }
}

impl PathParam for Seq {
    const NAME: &'static str = "seq";

    fn read(text: &str) -> Result<Self, Problem> {
        text.parse()
            .map(Self)
            .map_err(|_| Problem::invalid_field("seq", "seq is an event's number"))
    }
}

impl PathParam for Emoji {
    const NAME: &'static str = "emoji";

    fn read(text: &str) -> Result<Self, Problem> {
        Ok(Self(text.to_owned()))
    }
}

impl PathParam for CounterKey {
    const NAME: &'static str = "key";

    fn read(text: &str) -> Result<Self, Problem> {
        Ok(Self(text.to_owned()))
    }
}

fn id<T: FromStr>(text: &str, missing: &'static str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::not_found(missing))
}

impl<T: PathParam> FromRequestParts<AppState> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> ApiResult<Self> {
        // What is not UTF-8 after decoding is no name of anything.
        let params = RawPathParams::from_request_parts(parts, app)
            .await
            .map_err(|_| Problem::not_found("there is nothing under this address"))?;
        let text = params
            .iter()
            .find_map(|(name, text)| (name == T::NAME).then_some(text))
            .unwrap_or_default();
        Ok(Self(T::read(text)?))
    }
}
