//! The id in a path. One that can not be read names nothing, so it is *not found* in the family's
//! words, never the framework's.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;

use crate::app::App;
use crate::error::{Error, Result};

/// The last parameter of a path, as text.
pub struct PathId(pub String);

impl FromRequestParts<App> for PathId {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let params = path_parameters(parts, app).await?;
        let last = params.iter().last().map(|(_, id)| Self(id.to_owned()));
        last.ok_or_else(|| Error::internal("a path without a parameter"))
    }
}

/// The organization that a path names, as text.
pub struct PathOrganization(pub String);

impl FromRequestParts<App> for PathOrganization {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let params = path_parameters(parts, app).await?;
        let named = params.iter().find(|(name, _)| *name == "organizationId");
        let named = named.map(|(_, id)| Self(id.to_owned()));
        named.ok_or_else(|| Error::internal("a path that names no organization"))
    }
}

async fn path_parameters(parts: &mut Parts, app: &App) -> Result<RawPathParams> {
    let params = RawPathParams::from_request_parts(parts, app).await;
    params.map_err(|_| Error::not_found("There is nothing at this path"))
}
