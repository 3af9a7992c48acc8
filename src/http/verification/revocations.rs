//! `GET /v1/verify/revocations`: what ended or lost permissions, for verifiers that cache verdicts.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::error::Result;
use crate::http::edge::context::RequestContext;
use crate::http::family::RouteKind;
use crate::http::query::{Query, parse_integer};
use crate::http::render::verification::{BadRequest, Gone, NotFound, Unauthorized, Unavailable};
use crate::http::verification::verifier::JsonVerifier;
use crate::http::wire::Timestamp;
use crate::model::ValidationError;
use crate::model::cursor::matches_seal;
use crate::model::revocation::{Revocation, RevocationCursor};

/// The longest wait for an entry, in seconds.
const MAX_WAIT_SECONDS: u32 = 30;

/// The kind of the route, which may wait for as long as its caller requests.
pub(super) const KIND: RouteKind =
    RouteKind::READ.waiting(Duration::from_secs(MAX_WAIT_SECONDS as u64));

/// The query parameters, for the API description.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct RevocationParameters {
    /// The `cursor` of the previous response. Without it, the list is empty, and its `cursor` is
    /// the current one.
    after: Option<String>,
    /// How many seconds to wait for an entry if there is none. Default: 0.
    #[param(minimum = 0, maximum = 30)]
    wait: Option<u32>,
}

/// A key, a token or an organization that ended or lost permissions.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::Revocation)]
pub struct WireRevocation {
    /// `key.revoked`; `key.disabled`; `key.rotated` (it works until its grace period ends);
    /// `key.narrowed` (it has fewer scopes or other allowed addresses, expires earlier, acts in
    /// another organization, or its account has a lower role); `key.owner_disabled` (its account or
    /// membership ended); `organization.suspended`; `organization.deleted`;
    /// `organization.narrowed` (its list of origins was replaced). Discard verdicts for an unknown
    /// type, too. A key that expires at its `expires_at` has no entry.
    #[schema(examples("key.revoked"))]
    r#type: String,
    #[schema(examples("org_79d0fHwDRh"))]
    organization_id: String,
    /// The key or personal access token; null if every credential of the organization is concerned.
    #[schema(required, examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    key_id: Option<String>,
    at: Timestamp,
}

/// What ended or lost permissions after the cursor.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::Revocations)]
pub struct RevocationList {
    #[schema(examples("list"))]
    object: &'static str,
    /// At most 1,000 entries. An entry may be repeated later, and none is skipped.
    data: Vec<WireRevocation>,
    /// Send it as `after` of the next request. It is valid for 24 hours.
    cursor: String,
    request_id: String,
}

impl From<Revocation> for WireRevocation {
    fn from(revocation: Revocation) -> Self {
        Self {
            r#type: revocation.event,
            organization_id: revocation.organization_handle,
            key_id: revocation.key.map(|key| key.to_string()),
            at: Timestamp(revocation.at),
        }
    }
}

/// Follow the keys, tokens and organizations that end or lose permissions.
///
/// For verifiers that cache verdicts: discard those that an entry concerns. With `wait`, the
/// response is sent within about a second after the first entry was written, by any server.
#[utoipa::path(get, path = "/v1/verify/revocations", operation_id = "listRevocations",
    tag = "verification", params(RevocationParameters),
    security(("verifier" = []), ("verifier_bearer" = [])),
    responses((status = 200, description = "The entries after the cursor.", body = RevocationList),
              BadRequest, Unauthorized, NotFound, Gone, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    JsonVerifier(_verifier): JsonVerifier,
    context: RequestContext,
    mut query: Query,
) -> Result<Json<RevocationList>> {
    let after = query.optional("after", |text| open_cursor(text, &app));
    let max = i64::from(MAX_WAIT_SECONDS);
    let wait = query.optional("wait", |text| parse_integer(text, 0, max)).unwrap_or(0);
    query.finish()?;
    let wait = Duration::from_secs(u64::try_from(wait).unwrap_or(0));
    let page = app.revocation_feed.read(after, wait).await?;
    let seal = app.peppers.digest(&page.cursor.sealed_text()).0;
    Ok(Json(RevocationList {
        object: "list",
        data: page.entries.into_iter().map(Into::into).collect(),
        cursor: page.cursor.encode(&seal),
        request_id: context.id.clone(),
    }))
}

/// Returns the position of a cursor that was sealed by a server of this deployment.
fn open_cursor(text: &str, app: &App) -> std::result::Result<RevocationCursor, ValidationError> {
    let invalid = || ValidationError::from("must be a cursor of this list");
    let (cursor, seal) = RevocationCursor::decode(text).ok_or_else(invalid)?;
    let candidates = app.peppers.candidates(&cursor.sealed_text());
    let is_valid = candidates.iter().any(|expected| matches_seal(&seal, expected));
    if is_valid { Ok(cursor) } else { Err(invalid()) }
}
