//! The web client, embedded in the binary: its files, and its page for every address that is one of the client's.
//!
//! Building the gateway needs no client; without one it serves a page that says how to build it. Files under
//! `assets/` carry a hash in their names and are cached for ever; everything else is asked for anew each time, and
//! answered 304 when it has not changed.

use std::borrow::Cow;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};
use rust_embed::RustEmbed;

use crate::app::AppState;

#[derive(RustEmbed)]
#[folder = "../web/dist"]
struct Built;

/// A file of the web client.
#[derive(Debug, Clone)]
pub struct ClientFile {
    /// What is in it.
    pub content: Cow<'static, [u8]>,
    /// Its media type.
    pub media_type: String,
    /// A hash of what is in it.
    pub hash: [u8; 32],
}

/// Finds a file of the web client by its path without the leading slash.
pub type ClientFiles = fn(&str) -> Option<ClientFile>;

/// The files that were built into the binary.
pub(crate) fn embedded(path: &str) -> Option<ClientFile> {
    let file = Built::get(path)?;
    Some(ClientFile {
        media_type: file.metadata.mimetype().to_owned(),
        hash: file.metadata.sha256_hash(),
        content: file.data,
    })
}

const PAGE: &str = "index.html";
const HASHED: &str = "assets/";
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";

/// Answers what no route does.
pub(crate) async fn serve(State(app): State<AppState>, request: Request) -> Response {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads || belongs_to_the_gateway(path) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let find = app.client_files();
    let name = path.trim_start_matches('/');
    if name != PAGE
        && let Some(file) = find(name)
    {
        let cached = if name.starts_with(HASHED) {
            FOR_EVER
        } else {
            ASK_AGAIN
        };
        return answer(file, cached, request.headers());
    }
    // A missing picture must not be answered with a page, and a program that has mistyped an address should hear so.
    if !matches!(name, "" | PAGE) && !asks_for_a_page(name, request.headers()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    match find(PAGE) {
        Some(page) => answer(page, ASK_AGAIN, request.headers()),
        None => (
            [
                (header::CONTENT_TYPE, "text/html; charset=utf-8"),
                (header::CACHE_CONTROL, ASK_AGAIN),
            ],
            HOW_TO_BUILD,
        )
            .into_response(),
    }
}

/// Addresses under which the client has nothing, even if nobody else has.
fn belongs_to_the_gateway(path: &str) -> bool {
    ["/api", "/ws"].iter().any(|ours| {
        path.strip_prefix(ours)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Whether a browser navigates here: then it names HTML, and does not only take everything.
fn asks_for_a_page(name: &str, headers: &HeaderMap) -> bool {
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    !name.starts_with(HASHED) && accepted.is_some_and(|accepted| accepted.contains("text/html"))
}

fn answer(file: ClientFile, cached: &'static str, asked: &HeaderMap) -> Response {
    // Weak, since the same file also goes out compressed.
    let short: String = file.hash[..12]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let tag = format!("W/\"{short}\"");
    let unchanged = asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|known| known.split(',').any(|known| known.trim() == tag));
    let headers = [
        (header::CONTENT_TYPE, file.media_type),
        (header::CACHE_CONTROL, cached.to_owned()),
        (header::ETAG, tag),
    ];
    if unchanged {
        (StatusCode::NOT_MODIFIED, headers).into_response()
    } else {
        (headers, Body::from(file.content)).into_response()
    }
}

const HOW_TO_BUILD: &str = "<!doctype html>
<html lang=\"en\">
<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>Stack</title></head>
<body>
<h1>Stack is running</h1>
<p>This gateway was built without its web client. To build and start both, run <code>./scripts/run</code> in the
repository. To build the client alone, run <code>npm ci &amp;&amp; npm run build</code> in <code>apps/web</code>, then
build the gateway again.</p>
<p>The API is here all the same: see <a href=\"/version\">/version</a> and <a href=\"/health\">/health</a>.</p>
</body>
</html>
";
