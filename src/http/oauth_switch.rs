//! The guard of routes that exist only while OAuth is on.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::app::App;
use crate::error::{Error, Result};
use crate::http::auth::CountedRequest;

/// Guard: `OAUTH` is on. Otherwise the request is counted, and the route is not found. Name it
/// before the guard of the caller, so that every caller gets this error.
pub struct OauthIsOn;

impl FromRequestParts<App> for OauthIsOn {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        if app.config.oauth.is_on {
            return Ok(Self);
        }
        CountedRequest::from_request_parts(parts, app).await?;
        Err(Error::not_found("No route matches this path"))
    }
}
