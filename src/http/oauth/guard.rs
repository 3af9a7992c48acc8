//! The guard of routes that exist only while OAuth is on.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use crate::app::App;
use crate::error::{Error, Result};
use crate::http::auth::CountedRequest;
use crate::http::render;

/// Guard: OAuth is on. Otherwise the request is counted and rejected like one whose path no route
/// matches.
pub struct OauthIsOn;

impl FromRequestParts<App> for OauthIsOn {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        if app.config.oauth.is_on {
            return Ok(Self);
        }
        CountedRequest::from_request_parts(parts, app).await?;
        Err(render::from_status(StatusCode::NOT_FOUND))
    }
}
