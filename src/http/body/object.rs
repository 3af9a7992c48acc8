//! Reads a JSON object whose unknown members are ignored, as RFC 7591 §2 requires. Every other
//! route rejects them.

use axum::extract::{FromRequest, Request};
use serde_json::{Map, Value};

use super::{MAX_BODY_BYTES, invalid_json, read_body, require_media_type, without_byte_order_mark};
use crate::app::App;
use crate::error::{Error, ErrorKind, OauthFailure, Result};

/// The members of a JSON body. Of members of the same name, the last one counts.
pub struct JsonMembers(pub Map<String, Value>);

impl FromRequest<App> for JsonMembers {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        require_media_type(request.headers(), &mime::APPLICATION_JSON)?;
        let bytes = read_body(app, request, MAX_BODY_BYTES).await?;
        let json = without_byte_order_mark(&bytes);
        let value = serde_json::from_slice(json).map_err(|error| invalid_json(json, &error))?;
        let Value::Object(members) = value else {
            let kind = ErrorKind::Oauth(OauthFailure::InvalidClientMetadata);
            return Err(Error::new(kind, "Request body must be a JSON object"));
        };
        Ok(Self(members))
    }
}
