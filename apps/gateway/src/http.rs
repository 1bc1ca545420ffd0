//! Everything between the connection and a handler: the layers, what they need, and the extractors.

pub(crate) mod access;
pub(crate) mod body;
pub(crate) mod browser;
pub(crate) mod client_ip;
pub(crate) mod cookies;
pub(crate) mod crowded;
pub(crate) mod csrf;
pub(crate) mod headers;
pub(crate) mod identity;
pub(crate) mod layers;
pub(crate) mod leftover;
pub(crate) mod measures;
pub(crate) mod origin;
pub(crate) mod outgoing;
pub(crate) mod path;
pub(crate) mod problem;
pub(crate) mod query;
pub(crate) mod rates;
pub(crate) mod refusals;
pub(crate) mod request_id;
pub(crate) mod rewrite;
pub(crate) mod trace;

pub(crate) use body::{Json, OptionalJson};
pub(crate) use client_ip::Peer;
pub(crate) use identity::{Identity, Sender, SignedIn};
pub(crate) use layers::{api, around, carried_out};
pub(crate) use path::InPath;
pub(crate) use problem::{ApiError, ApiResult, chain};
pub(crate) use query::Query;
