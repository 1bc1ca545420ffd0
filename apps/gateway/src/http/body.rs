//! Bodies of requests: JSON objects, read whole, at most so many bytes.
//!
//! What is wrong with one is told apart: the content type (415), the JSON (400), a field (422, with its name), the
//! size (413).

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use parking_lot::Mutex;
use serde::de::{DeserializeOwned, IgnoredAny};
use stack_rate::IpKey;
use stack_types::{ErrorCode, Problem};
use tokio::time::timeout;

use crate::app::{App, AppState};

use super::problem::ApiError;

/// A client that sends too much gets its answer only if somebody reads what it sends: most write everything before
/// they read, and a connection closed in their face loses the answer. So some of it is read and thrown away.
const DISCARDED_BYTES: usize = 8 * 1024 * 1024;
const DISCARDING: Duration = Duration::from_secs(3);

/// A body that is here by then takes no place: it was sent along with its head, or right behind it.
const QUICK: Duration = Duration::from_millis(250);
/// Bodies that one address, or one /64 of IPv6, has on their way for longer. More people than that do not send a lot
/// over a thin line at the same moment, and who sends nothing on purpose must not take every place there is.
const SLOW_OF_ONE: usize = 64;
/// When a place may be free again.
const SLOW_RETRY: Duration = Duration::from_secs(2);

/// The places of bodies that are long on their way: so many in all, and a share of them for each address.
pub(crate) struct SlowBodies {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    /// Only addresses with a body on its way are in here.
    by_ip: HashMap<IpKey, usize>,
}

/// The place of one of them. Dropping it gives the place back.
struct SlowBody<'a> {
    places: &'a SlowBodies,
    ip: IpKey,
}

impl SlowBodies {
    /// So many places, none of them taken.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            taken: Mutex::default(),
        }
    }

    fn take(&self, ip: IpKey) -> Option<SlowBody<'_>> {
        let mut taken = self.taken.lock();
        let of_ip = taken.by_ip.get(&ip).copied().unwrap_or(0);
        if taken.total >= self.most || of_ip >= SLOW_OF_ONE {
            return None;
        }
        taken.total += 1;
        taken.by_ip.insert(ip, of_ip + 1);
        Some(SlowBody { places: self, ip })
    }
}

impl Drop for SlowBody<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.total -= 1;
        if let Some(of_ip) = taken.by_ip.get_mut(&self.ip) {
            *of_ip -= 1;
            if *of_ip == 0 {
                taken.by_ip.remove(&self.ip);
            }
        }
    }
}

/// A JSON object that has to be there.
pub(crate) struct Json<T>(pub(crate) T);

/// A JSON object that may be missing altogether.
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<AppState> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        let body = read(request.into_body(), app.limits().http_body_bytes).await?;
        Ok(Self(parse(&body)?))
    }
}

impl<T: DeserializeOwned + Default> FromRequest<AppState> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &AppState) -> Result<Self, ApiError> {
        let body = read(request.into_body(), app.limits().http_body_bytes).await?;
        let value = if body.is_empty() {
            T::default()
        } else {
            parse(&body)?
        };
        Ok(Self(value))
    }
}

/// Whether the headers announce a body.
pub(crate) fn is_announced(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
}

/// Whether there is a body. HTTP/2 sends one without announcing it.
pub(crate) fn is_there(request: &Request) -> bool {
    !request.body().is_end_stream()
}

/// The announced length of the body, where it is told.
pub(crate) fn announced_bytes(headers: &HeaderMap) -> Option<usize> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Whether the body says that it is JSON; parameters such as a charset do not matter, JSON is UTF-8.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// `payload_too_large`, once enough has been read for the client to hear it.
pub(crate) async fn too_large(body: Body, limit: usize) -> Problem {
    // Whether the client stopped, failed or went on until the time was up does not matter.
    let _ = timeout(DISCARDING, discard(body)).await;
    Problem::new(
        ErrorCode::PayloadTooLarge,
        format!("the body is larger than {limit} bytes"),
    )
}

async fn discard(mut body: Body) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > DISCARDED_BYTES {
            return;
        }
    }
}

/// All of a body from this address, unless it is too large, or slow while many are.
pub(crate) async fn receive(app: &App, body: Body, ip: IpAddr) -> Result<Bytes, Problem> {
    let mut read = pin!(read(body, app.limits().http_body_bytes));
    if let Ok(done) = timeout(QUICK, &mut read).await {
        return done;
    }
    let Some(_place) = app.slow_bodies().take(ip.into()) else {
        let detail = "the body takes too long to arrive; come back soon";
        let mut problem = Problem::new(ErrorCode::Unavailable, detail);
        problem.retry_after = Some(SLOW_RETRY);
        return Err(problem);
    };
    read.await
}

/// All of a body, unless it is too large.
async fn read(mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Problem::new(ErrorCode::BadRequest, "the body ended too early"))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if bytes.len() + data.len() > limit {
            return Err(too_large(body, limit).await);
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes.freeze())
}

/// Reads a JSON object.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // Derived readers also take the fields of a struct from an array, in their order; that is nothing to offer.
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => {}
        Some(_) => return Err(malformed("the body must be a JSON object")),
        None => return Err(malformed("there must be a body, a JSON object")),
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        // A field is at fault only in a body that is otherwise JSON to its end.
        match serde_json::from_slice::<IgnoredAny>(body) {
            Ok(_) if error.is_data() => at_field(&path, &error.to_string()),
            Ok(_) => malformed(format!("the body is not JSON: {error}")),
            Err(error) => malformed(format!("the body is not JSON: {error}")),
        }
    })?;
    json.end()
        .map_err(|error| malformed(format!("the body is not JSON: {error}")))?;
    Ok(value)
}

fn malformed(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(ErrorCode::BadRequest, detail)
}

/// The problem with the field at `path`, from what serde says of it.
pub(crate) fn at_field(path: &str, message: &str) -> Problem {
    let reason = message.split(" at line ").next().unwrap_or(message);
    // What was found is left out: it is long, or a password in the wrong place.
    let reason = match reason.rsplit_once(", expected ") {
        Some((_, expected)) if expected.starts_with("struct ") => "expected an object".to_owned(),
        Some((_, expected)) => format!("expected {expected}"),
        None => reason.to_owned(),
    };
    // Of a missing or doubled field serde tells the path of what should hold it once, and the name in its message.
    let named = ["missing field `", "duplicate field `"]
        .iter()
        .find_map(|start| reason.strip_prefix(start)?.strip_suffix('`'));
    let field = match (path, named) {
        ("." | "", Some(name)) => name.to_owned(),
        (path, Some(name)) if path != name && !path.ends_with(&format!(".{name}")) => {
            format!("{path}.{name}")
        }
        (path, _) => path.to_owned(),
    };
    Problem::invalid_field(field, reason)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use stack_types::{JsonValue, RoomSettingsPatch, Username};

    use super::*;

    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "only reading it is tested")]
    struct Example {
        username: Username,
        count: Option<u32>,
        data: Option<JsonValue>,
        #[serde(default)]
        settings: RoomSettingsPatch,
    }

    fn refused(body: &str) -> (ErrorCode, Option<String>) {
        let problem = parse::<Example>(body.as_bytes()).unwrap_err();
        (problem.code, problem.field.map(|field| field.into_owned()))
    }

    #[test]
    fn one_address_has_its_share_of_slow_bodies() {
        let places = SlowBodies::new(SLOW_OF_ONE + 1);
        let ip = |ip: &str| IpKey::from(ip.parse::<IpAddr>().unwrap());
        let mut held: Vec<_> = (0..SLOW_OF_ONE)
            .map(|_| places.take(ip("2001:db8::1")).unwrap())
            .collect();
        assert!(places.take(ip("2001:db8::2")).is_none());
        let other = places.take(ip("192.0.2.1")).unwrap();
        assert!(places.take(ip("192.0.2.2")).is_none(), "there is no more");
        held.pop();
        assert!(places.take(ip("2001:db8::2")).is_some());
        drop((held, other));
        let taken = places.taken.lock();
        assert_eq!((taken.total, taken.by_ip.len()), (0, 0));
    }

    #[test]
    fn json_that_is_none_is_a_bad_request() {
        for body in [
            "",
            "  ",
            "{",
            "nonsense",
            "[\"alice\"]",
            "\"x\"",
            "null",
            "{\"username\":\"al\"} x",
            "{\"username\":\"al\",}",
            "\u{feff}{}",
        ] {
            assert_eq!(refused(body), (ErrorCode::BadRequest, None), "{body:?}");
        }
        assert!(parse::<Example>(b"{\"username\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_field_at_fault_is_named() {
        let at = |field: &str| (ErrorCode::InvalidField, Some(field.to_owned()));
        assert_eq!(refused("{}"), at("username"));
        assert_eq!(refused(r#"{"username":7}"#), at("username"));
        assert_eq!(refused(r#"{"username":"a b"}"#), at("username"));
        assert_eq!(
            refused(r#"{"username":"al","username":"al"}"#),
            at("username")
        );
        assert_eq!(refused(r#"{"username":"al","count":-1}"#), at("count"));
        assert_eq!(
            refused(r#"{"username":"al","settings":{"public":1}}"#),
            at("settings.public")
        );
        assert_eq!(refused(r#"{"username":"al","settings":3}"#), at("settings"));
    }

    #[test]
    fn details_do_not_repeat_what_was_sent() {
        let problem = parse::<Example>(br#"{"username":"al","count":"x"}"#).unwrap_err();
        assert_eq!(problem.detail, "expected u32");
        let problem = parse::<Example>(br#"{"username":"al","settings":3}"#).unwrap_err();
        assert_eq!(problem.detail, "expected an object");
    }

    #[test]
    fn data_is_kept_as_it_was_written() {
        let example: Example =
            parse(br#"{"username":"al","data":{"b": 1.0, "a":[ ]}, "more":1}"#).unwrap();
        assert_eq!(example.data.unwrap().as_str(), r#"{"b": 1.0, "a":[ ]}"#);
    }
}
