//! The `Idempotency-Key` header, which the operator's changes require, because the operator's
//! workers retry requests until they get a response. If it is missing or has an invalid format, the
//! request is *malformed* in this family, not *invalid*.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use utoipa::IntoParams;

use crate::app::App;
use crate::error::{Error, ErrorKind, Issue, Location, Result};
use crate::http::edge::idempotency::Idempotency;

/// The header, for the API description.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct RequiredIdempotencyHeader {
    /// Identifies this request. If it is repeated within 30 days, the stored response is sent
    /// again, without secrets.
    #[param(
        rename = "Idempotency-Key",
        min_length = 1,
        max_length = 256,
        example = "evt_1RkQ2eLkdIwHu7ix"
    )]
    key: String,
}

/// Extracts the idempotency key of a request that must have one.
pub struct RequireIdempotencyKey(pub Idempotency);

impl FromRequestParts<App> for RequireIdempotencyKey {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let invalid =
            |issues| Error::malformed("Idempotency-Key header is required").with_issues(issues);
        match Idempotency::from_request_parts(parts, app).await {
            Ok(idempotency) if idempotency.has_key() => Ok(Self(idempotency)),
            Ok(_) => {
                let missing =
                    Issue::field("Idempotency-Key", "is required").with_location(Location::Header);
                Err(invalid(vec![missing]))
            }
            Err(error) if *error.kind() == ErrorKind::Invalid => {
                Err(invalid(error.issues().to_vec()))
            }
            Err(error) => Err(error),
        }
    }
}
