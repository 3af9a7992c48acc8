//! The `Idempotency-Key` that the operator's changes need: provisioning is done by workers that
//! ask again until they are answered. Without one, or with one of another form, the request is
//! malformed here, not invalid (contract §5).

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use utoipa::IntoParams;

use crate::app::App;
use crate::error::{Error, ErrorKind, Issue, Location, Result};
use crate::http::edge::idempotency::Idempotency;

/// The header, as the API document describes it.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only described, in the API document")]
pub struct RequiredIdempotencyHeader {
    /// The operator's name for this request: sent again within 30 days, it is answered again,
    /// without secrets.
    #[param(
        rename = "Idempotency-Key",
        min_length = 1,
        max_length = 256,
        example = "evt_1RkQ2eLkdIwHu7ix"
    )]
    key: String,
}

/// A request that has a name, and may come again.
pub struct RequireIdempotencyKey(pub Idempotency);

impl FromRequestParts<App> for RequireIdempotencyKey {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let refused = |issues| Error::malformed("The request needs a name").with_issues(issues);
        match Idempotency::from_request_parts(parts, app).await {
            Ok(idempotency) if idempotency.has_key() => Ok(Self(idempotency)),
            Ok(_) => {
                let missing =
                    Issue::field("Idempotency-Key", "is required").with_location(Location::Header);
                Err(refused(vec![missing]))
            }
            Err(error) if *error.kind() == ErrorKind::Invalid => {
                Err(refused(error.issues().to_vec()))
            }
            Err(error) => Err(error),
        }
    }
}
