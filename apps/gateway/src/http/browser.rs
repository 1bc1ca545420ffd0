//! The browser that begins a ceremony: its steps belong to one browser, which a cookie tells.
//!
//! A program has no cookies; what ties its steps together is the id of the ceremony alone. A browser cannot pass for
//! one: it says where its page is from.

use http::{HeaderMap, HeaderName, header};
use stack_types::Problem;

use super::Identity;
use crate::app::App;
use std::time::Duration;

/// Longer than any ceremony, so that the cookie never ends before what it is for.
const LIVES: Duration = Duration::from_secs(10 * 60);
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The secret of the browser that begins, and the cookie to answer with; nothing for a program.
///
/// # Errors
/// The machine gives no random bytes.
pub(crate) fn begins(
    app: &App,
    identity: &Identity,
    asked: &HeaderMap,
) -> Result<(Option<String>, HeaderMap), Problem> {
    let mut headers = HeaderMap::new();
    let carried = identity.cookies.ceremony.as_deref();
    let is_browser = asked.contains_key(header::ORIGIN) || asked.contains_key(SEC_FETCH_SITE);
    if !is_browser && !identity.cookies.any() && carried.is_none() {
        return Ok((None, headers));
    }
    let secret = app.auth().oauth_browser(carried)?;
    app.cookies().set_ceremony(&mut headers, &secret, LIVES);
    Ok((Some(secret), headers))
}
