//! `POST /v1/admin/org/{id}/force-rotate` and `/force-revoke`: the operator steps in where an
//! organization's keys are in wrong hands.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::keys::Minted;
use crate::domain::provisioning::{self, ForceRotated};
use crate::error::Result;
use crate::http::caller::{OrgForceRevoke, OrgForceRotate};
use crate::http::context::RequestContext;
use crate::http::idempotency::Reply;
use crate::http::operator::change::Change;
use crate::http::operator::dialect::{
    BadRequest, Conflict, Invalid, NotFound, RateLimited, TooLarge, Unauthorized, Unavailable,
    UnsupportedMediaType,
};
use crate::http::operator::idempotency::RequiredHeader;
use crate::http::operator::wire::{Confirmation, JoinedMembership, Stamp, WARNING};
use crate::http::wire::Timestamp;
use crate::model::member::JoinedByKey;

/// An organization's new key.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::ForceRotated)]
pub struct Rotated {
    rotated: bool,
    #[schema(examples("org_acme_2026_example"))]
    org_id: String,
    /// The key's text: in the first answer, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("tnt_live_a1b2c3d4…"))]
    new_api_key: Option<String>,
    /// The 8 characters of the key that may be shown.
    #[schema(examples("a1b2c3d4"))]
    prefix: String,
    rotated_at: Timestamp,
    /// The memberships that began by invitations of the organization's keys, the newest 500. They
    /// go on; the invitations that were open have ended.
    memberships: Vec<JoinedMembership>,
    warning: &'static str,
    #[serde(flatten)]
    stamp: Stamp,
}

impl Rotated {
    /// What is told of an organization's new key.
    pub fn reply(rotated: ForceRotated, context: &RequestContext) -> Reply<Self> {
        let Minted { secret, key } = rotated.minted;
        let body = Self {
            rotated: true,
            org_id: rotated.standing.handle,
            new_api_key: None,
            prefix: key.display_id,
            rotated_at: Timestamp(context.at),
            memberships: rotated.memberships.into_iter().map(JoinedMembership::from).collect(),
            warning: WARNING,
            stamp: Stamp::from(context),
        };
        Reply::ok(body).showing(secret, |body| &mut body.new_api_key)
    }
}

/// Give an organization a new key, and end every other one at once.
///
/// The open invitations that its keys made or sent again last end, too, and the answer names the
/// memberships that began by the others. The key's text is in this answer and nowhere else. The
/// organization stays suspended where it is.
#[utoipa::path(post, path = "/v1/admin/org/{id}/force-rotate", operation_id = "forceRotateKeys",
    tag = "operator", request_body = Confirmation,
    params(("id" = String, Path, description = "The organization's id."), RequiredHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "The new key.", body = Rotated), BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Invalid,
              RateLimited, Unavailable))]
pub(super) async fn rotate(
    State(app): State<App>,
    change: Change<OrgForceRotate, Confirmation>,
) -> Result<Response> {
    change
        .run_showing(&app, async |tx, _, on, context| {
            let (handle, by, trail) = (&on.handle, on.by.as_str(), &on.trail);
            let rotated = provisioning::force_rotate(&app, tx, handle, by, trail).await?;
            Ok(Rotated::reply(rotated, context))
        })
        .await
}

/// That an organization has no live key any more, or that a key has ended.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Revoked)]
pub struct Revoked {
    revoked: bool,
    #[schema(examples("org_acme_2026_example"))]
    org_id: String,
    revoked_at: Timestamp,
    /// The memberships that began by invitations of what ended, the newest 500. They go on; the
    /// invitations that were open have ended.
    memberships: Vec<JoinedMembership>,
    #[serde(flatten)]
    stamp: Stamp,
}

impl Revoked {
    /// What is told of what ended in the organization `org_id`.
    pub fn new(org_id: String, joined: Vec<JoinedByKey>, context: &RequestContext) -> Self {
        let memberships = joined.into_iter().map(JoinedMembership::from).collect();
        let (revoked_at, stamp) = (Timestamp(context.at), Stamp::from(context));
        Self { revoked: true, org_id, revoked_at, memberships, stamp }
    }
}

/// End every key of an organization at once, with the open invitations of its keys.
///
/// Those are what the keys made or sent again last. The answer names the memberships that began by
/// the others.
#[utoipa::path(post, path = "/v1/admin/org/{id}/force-revoke", operation_id = "forceRevokeKeys",
    tag = "operator", request_body = Confirmation,
    params(("id" = String, Path, description = "The organization's id."), RequiredHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "They have ended.", body = Revoked), BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Invalid,
              RateLimited, Unavailable))]
pub(super) async fn revoke(
    State(app): State<App>,
    change: Change<OrgForceRevoke, Confirmation>,
) -> Result<Response> {
    change
        .run(&app, async |tx, _, on, context| {
            let (standing, joined) =
                provisioning::force_revoke(tx, &on.handle, &on.by, &on.trail).await?;
            Ok(Revoked::new(standing.handle, joined, context))
        })
        .await
}
