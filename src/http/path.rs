//! The id in a path. One that can not be read names nothing, so it is *not found* in the family's
//! words, never the framework's.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::app::App;
use crate::error::{Error, Result};

/// The one parameter of a path, as text.
pub struct PathId(pub String);

impl FromRequestParts<App> for PathId {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        path.map(|Path(id)| Self(id)).map_err(|_| Error::not_found("There is nothing at this path"))
    }
}
