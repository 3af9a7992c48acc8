//! The cookie that identifies a browser, so that only the browser that began an authorization
//! request can answer it, and only the browser that began a sign-in with an identity provider can
//! complete it.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::Response;

use crate::app::App;
use crate::entropy::random_base62;
use crate::error::{Error, Result};
use crate::http::auth::session_cookie::{build_cookie, to_header_value, values_of};
use crate::model::secret::{Digest, Secret};

/// The cookie's name if callers use TLS. Browsers require the path `/` for this prefix, which
/// prevents other hosts from setting a cookie of this name.
const SECURE_NAME: &str = "__Host-tenantry_browser";
/// The cookie's name without TLS, for development.
const PLAIN_NAME: &str = "tenantry_browser";
/// The number of characters of the cookie's value, which has 256 random bits.
const LENGTH: usize = 43;
/// The maximum number of a request's cookies that are read.
const MAX_VALUES: usize = 4;

fn cookie_name(app: &App) -> &'static str {
    if app.config.http.is_https() { SECURE_NAME } else { PLAIN_NAME }
}

/// The browser of a request, by its cookies.
pub struct BrowserCookies(Vec<Secret>);

impl BrowserCookies {
    fn of(headers: &HeaderMap, app: &App) -> Self {
        let is_valid = |value: &&str| {
            value.len() == LENGTH && value.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let values = values_of(headers, cookie_name(app)).filter(is_valid).take(MAX_VALUES);
        Self(values.map(|value| Secret::new(value.to_owned())).collect())
    }

    /// Returns every digest under which the browser may be stored.
    #[must_use]
    pub fn digests(&self, app: &App) -> Vec<Digest> {
        self.0.iter().flat_map(|value| app.peppers.candidates(value.expose())).collect()
    }

    /// Returns the response of `respond`, which receives the digest to store. A browser without a
    /// cookie gets one with it.
    ///
    /// # Errors
    /// The errors of `respond`.
    pub async fn respond_with_cookie(
        &self,
        app: &App,
        respond: impl AsyncFnOnce(Digest) -> Result<Response>,
    ) -> Result<Response> {
        if let Some(value) = self.0.first() {
            return respond(app.peppers.digest(value.expose()).0).await;
        }
        let value = Secret::new(random_base62(&*app.entropy, LENGTH));
        let mut response = respond(app.peppers.digest(value.expose()).0).await?;
        let cookie = build_cookie(app, cookie_name(app), value.expose()).build();
        response.headers_mut().append(header::SET_COOKIE, to_header_value(&cookie));
        Ok(response)
    }
}

impl FromRequestParts<App> for BrowserCookies {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        Ok(Self::of(&parts.headers, app))
    }
}
