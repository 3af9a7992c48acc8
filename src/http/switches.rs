//! The guards of routes that exist only while a feature is on. Name one before the guard of the
//! caller, so that every caller gets the same error while the feature is off.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::app::App;
use crate::error::{Error, Result};
use crate::http::auth::CountedRequest;

/// Guard: `OAUTH` is on. Otherwise the request is counted, and the route is not found.
pub struct OauthIsOn;

/// Guard: `SSO` is on. Otherwise the request is counted, and the route is not found.
pub struct SsoIsOn;

impl FromRequestParts<App> for OauthIsOn {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        require(app.config.oauth.is_on, parts, app).await.map(|()| Self)
    }
}

impl FromRequestParts<App> for SsoIsOn {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        require(app.config.sso.is_on, parts, app).await.map(|()| Self)
    }
}

async fn require(is_on: bool, parts: &mut Parts, app: &App) -> Result<()> {
    if is_on {
        return Ok(());
    }
    CountedRequest::from_request_parts(parts, app).await?;
    Err(Error::not_found("No route matches this path"))
}
