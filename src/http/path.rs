//! Extractors for the ids in a path. A path that cannot be decoded is *not found*, with the error
//! body of the family instead of the framework's.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;

use crate::app::App;
use crate::error::{Error, Result};

/// Extracts the last parameter of the path, unparsed.
pub struct PathId(pub String);

impl FromRequestParts<App> for PathId {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let params = path_parameters(parts, app).await?;
        let last = params.iter().last().map(|(_, id)| Self(id.to_owned()));
        last.ok_or_else(|| Error::internal("the route has no parameter in its path"))
    }
}

/// Extracts the path parameter `organizationId`, unparsed.
pub struct PathOrganization(pub String);

impl FromRequestParts<App> for PathOrganization {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let params = path_parameters(parts, app).await?;
        let organization = params.iter().find(|(name, _)| *name == "organizationId");
        let organization = organization.map(|(_, id)| Self(id.to_owned()));
        organization.ok_or_else(|| Error::internal("the route has no organizationId in its path"))
    }
}

/// Extracts the last two parameters of the path, unparsed: an object's id, and that of an object
/// within it.
pub struct PathIdPair(pub String, pub String);

impl FromRequestParts<App> for PathIdPair {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let params = path_parameters(parts, app).await?;
        let ids: Vec<&str> = params.iter().map(|(_, id)| id).collect();
        match ids.as_slice() {
            [.., outer, inner] => Ok(Self((*outer).to_owned(), (*inner).to_owned())),
            _ => Err(Error::internal("the route has fewer than two parameters in its path")),
        }
    }
}

async fn path_parameters(parts: &mut Parts, app: &App) -> Result<RawPathParams> {
    let params = RawPathParams::from_request_parts(parts, app).await;
    params.map_err(|_| Error::not_found("No route matches this path"))
}
