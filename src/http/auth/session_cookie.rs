//! The cookie of a person's session (contract §1, *Cookies*).

use axum::http::{HeaderMap, HeaderValue, header};
use cookie::{Cookie, SameSite};

use crate::app::App;
use crate::domain::accounts::sessions::StartedSession;
use crate::model::session::ABSOLUTE_LIFETIME;

/// Its name where callers reach us over TLS: the prefix keeps other hosts and other schemes from
/// setting one of this name (RFC 6265bis §4.1.3.2).
const SECURE_NAME: &str = "__Host-tenantry_session";
/// Its name without TLS, for development.
const PLAIN_NAME: &str = "tenantry_session";

/// Its name in this deployment.
fn cookie_name(app: &App) -> &'static str {
    if app.config.http.is_https() { SECURE_NAME } else { PLAIN_NAME }
}

/// The values of the session's cookie in a request, in its order; one that is no text is empty.
///
/// Browsers compare names as bytes, and so does this, with nothing stripped but the white space of
/// RFC 6265 §5.2: a name that only looks like ours is not kept from other hosts by its prefix.
pub fn values<'a>(headers: &'a HeaderMap, app: &App) -> impl Iterator<Item = &'a str> {
    let name = cookie_name(app).as_bytes();
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let value = trim(&pair[equals + 1..]);
        (trim(&pair[..equals]) == name).then(|| std::str::from_utf8(value).unwrap_or_default())
    })
}

/// The text without the spaces and tabs around it.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Sets the session's cookie. Where it is not to be remembered, the browser forgets it when it
/// closes; otherwise it keeps it for as long as a session can live, and we judge how long it does.
#[must_use]
pub fn set_cookie_header(app: &App, session: &StartedSession) -> HeaderValue {
    let cookie = cookie_builder(app, session.cookie.expose());
    let cookie = if session.is_remembered {
        cookie.max_age(cookie::time::Duration::seconds(ABSOLUTE_LIFETIME.num_seconds()))
    } else {
        cookie
    };
    to_header_value(&cookie.build())
}

/// Takes the cookie away.
#[must_use]
pub fn clear_cookie_header(app: &App) -> HeaderValue {
    to_header_value(&cookie_builder(app, "").max_age(cookie::time::Duration::ZERO).build())
}

fn cookie_builder<'a>(app: &App, value: &'a str) -> cookie::CookieBuilder<'a> {
    Cookie::build((cookie_name(app), value))
        .http_only(true)
        .secure(app.config.http.is_https())
        .same_site(SameSite::Lax)
        .path("/")
}

fn to_header_value(cookie: &Cookie<'_>) -> HeaderValue {
    let value = HeaderValue::from_str(&cookie.to_string());
    let mut value = value.unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}
