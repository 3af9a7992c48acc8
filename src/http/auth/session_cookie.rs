//! The session cookie.

use axum::http::{HeaderMap, HeaderValue, header};
use cookie::{Cookie, CookieBuilder, SameSite};

use crate::app::App;
use crate::domain::accounts::sessions::StartedSession;
use crate::model::session::ABSOLUTE_LIFETIME;

/// The cookie's name if callers use TLS. The prefix prevents other hosts and schemes from setting a
/// cookie of this name (RFC 6265bis §4.1.3.2).
const SECURE_NAME: &str = "__Host-tenantry_session";
/// The cookie's name without TLS, for development.
const PLAIN_NAME: &str = "tenantry_session";

/// Returns the cookie's name in this deployment.
fn cookie_name(app: &App) -> &'static str {
    if app.config.http.is_https() { SECURE_NAME } else { PLAIN_NAME }
}

/// Returns the values of the session cookie in a request, in their order. A value that is not UTF-8
/// is returned as an empty string.
///
/// Names are compared as bytes, as browsers do, after removing only the white space of RFC 6265
/// §5.2: the protection of the `__Host-` prefix applies to the exact name only.
pub fn values<'a>(headers: &'a HeaderMap, app: &App) -> impl Iterator<Item = &'a str> {
    values_of(headers, cookie_name(app))
}

/// Does the same as [`values`] for the cookie with this name.
pub fn values_of<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    let name = name.as_bytes();
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let value = trim(&pair[equals + 1..]);
        (trim(&pair[..equals]) == name).then(|| std::str::from_utf8(value).unwrap_or_default())
    })
}

/// Removes spaces and tabs at both ends.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Returns the `Set-Cookie` header of a session. If the session is not remembered, the browser
/// discards the cookie when it closes. Otherwise the cookie lasts for the maximum lifetime of a
/// session; the server decides when the session itself ends.
#[must_use]
pub fn set_cookie_header(app: &App, session: &StartedSession) -> HeaderValue {
    let cookie = build_cookie(app, cookie_name(app), session.cookie.expose());
    let cookie = if session.is_remembered {
        cookie.max_age(cookie::time::Duration::seconds(ABSOLUTE_LIFETIME.num_seconds()))
    } else {
        cookie
    };
    to_header_value(&cookie.build())
}

/// Returns the `Set-Cookie` header that removes the cookie.
#[must_use]
pub fn clear_cookie_header(app: &App) -> HeaderValue {
    to_header_value(
        &build_cookie(app, cookie_name(app), "").max_age(cookie::time::Duration::ZERO).build(),
    )
}

/// Begins a cookie that scripts cannot read, that browsers send from other sites with top-level
/// navigations only, and that is sent to every path of this host.
#[must_use]
pub fn build_cookie<'a>(app: &App, name: &'a str, value: &'a str) -> CookieBuilder<'a> {
    Cookie::build((name, value))
        .http_only(true)
        .secure(app.config.http.is_https())
        .same_site(SameSite::Lax)
        .path("/")
}

/// Returns the `Set-Cookie` header of a cookie. Debug output does not contain it.
#[must_use]
pub fn to_header_value(cookie: &Cookie<'_>) -> HeaderValue {
    let value = HeaderValue::from_str(&cookie.to_string());
    let mut value = value.unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}
