//! The few HTTP requests that prepare a run: a user, its token, a room. One connection each, blocking.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(30);

/// Sends a request and gives the status and the body.
///
/// # Errors
/// The server cannot be reached or speaks no HTTP.
pub(crate) fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&server, WITHIN)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_nodelay(true)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n");
    if let Some(token) = token {
        head.push_str(&format!("authorization: Bearer {token}\r\n"));
    }
    let body = body.map(Value::to_string);
    if let Some(body) = &body {
        head.push_str(&format!(
            "content-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        ));
    }
    head.push_str("\r\n");
    head.push_str(body.as_deref().unwrap_or_default());
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer has no end of its head")?;
    let status = head
        .get(9..12)
        .and_then(|code| code.parse().ok())
        .context("the answer has no status")?;
    Ok((status, body.to_owned()))
}

/// Sends a request that has to succeed, and gives its JSON.
///
/// # Errors
/// It does not.
pub(crate) fn demand(
    server: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &Value,
) -> Result<Value> {
    let (status, text) = request(server, method, path, token, Some(body))?;
    if !(200..300).contains(&status) {
        bail!("{method} {path} was answered {status}: {text}");
    }
    // The body may be chunked; the object in it is in one piece all the same.
    let start = text.find('{').context("the answer is no object")?;
    let end = text.rfind('}').context("the answer is no object")?;
    Ok(serde_json::from_str(&text[start..=end])?)
}

/// Makes a user, or signs it in when it is there, and gives its access token.
///
/// # Errors
/// The gateway refuses.
pub(crate) fn sign_in(server: SocketAddr, username: &str) -> Result<String> {
    let password = format!("{username}: a bench has no secrets");
    let body = json!({"username": username, "password": password, "token_delivery": "body"});
    let answer =
        demand(server, "POST", "/api/v1/auth/register", None, &body).or_else(|refused| {
            let body = json!({"login": username, "password": password, "token_delivery": "body"});
            demand(server, "POST", "/api/v1/auth/login", None, &body)
                .map_err(|error| error.context(refused))
        })?;
    let token = answer.get("access_token").and_then(Value::as_str);
    Ok(token.context("no access token in the answer")?.to_owned())
}

/// Makes a room, unless it is there.
///
/// # Errors
/// The gateway refuses.
pub(crate) fn make_room(server: SocketAddr, token: &str, room: &str) -> Result<()> {
    let path = format!("/api/v1/rooms/{room}");
    let (status, _) = request(server, "GET", &path, Some(token), None)?;
    if status != 200 {
        let body = json!({"id": room, "title": room, "settings": {"public": true}});
        demand(server, "POST", "/api/v1/rooms", Some(token), &body)?;
    }
    Ok(())
}

/// Whether the server answers this path with 200.
pub(crate) fn is_up(server: SocketAddr, path: &str) -> bool {
    matches!(request(server, "GET", path, None, None), Ok((200, _)))
}
