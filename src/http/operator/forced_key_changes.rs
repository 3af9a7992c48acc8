//! `POST /v1/admin/org/{id}/force-rotate` and `/force-revoke`: the operator steps in where an
//! organization's keys are in wrong hands.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::keys::CreatedKey;
use crate::domain::organizations::provisioning::{self, ForceRotation};
use crate::error::Result;
use crate::http::auth::{OrgForceRevoke, OrgForceRotate};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::ChangeResponse;
use crate::http::operator::idempotency::RequiredIdempotencyHeader;
use crate::http::operator::organization_change::OrganizationChange;
use crate::http::operator::wire::{Confirmation, JoinedMembership, KEY_WARNING, ResponseMeta};
use crate::http::render::operator::{
    BadRequest, Conflict, NotFound, RateLimited, TooLarge, Unauthorized, Unavailable,
    Unprocessable, UnsupportedMediaType,
};
use crate::http::wire::Timestamp;
use crate::model::member::KeyInvitedMembership;

/// An organization's new key.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::ForceRotated)]
pub struct ForceRotateResponse {
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
    stamp: ResponseMeta,
}

impl ForceRotateResponse {
    /// What is told of an organization's new key.
    pub fn response(rotated: ForceRotation, context: &RequestContext) -> ChangeResponse<Self> {
        let CreatedKey { secret, key } = rotated.minted;
        let body = Self {
            rotated: true,
            org_id: rotated.standing.handle,
            new_api_key: None,
            prefix: key.display_id,
            rotated_at: Timestamp(context.received_at),
            memberships: rotated.memberships.into_iter().map(JoinedMembership::from).collect(),
            warning: KEY_WARNING,
            stamp: ResponseMeta::from(context),
        };
        ChangeResponse::ok(body).with_secret(secret, |body| &mut body.new_api_key)
    }
}

/// Give an organization a new key, and end every other one at once.
///
/// The open invitations that its keys made or sent again last end, too, and the answer names the
/// memberships that began by the others. The key's text is in this answer and nowhere else. The
/// organization stays suspended where it is.
#[utoipa::path(post, path = "/v1/admin/org/{id}/force-rotate", operation_id = "forceRotateKeys",
    tag = "operator", request_body = Confirmation,
    params(("id" = String, Path, description = "The organization's id."),
           RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "The new key.", body = ForceRotateResponse), BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn rotate(
    State(app): State<App>,
    change: OrganizationChange<OrgForceRotate, Confirmation>,
) -> Result<Response> {
    change
        .run_with_secret(&app, async |tx, _, on, context| {
            let (handle, by, audit) = (&on.handle, on.actor.as_str(), &on.audit);
            let rotated = provisioning::force_rotate(&app, tx, handle, by, audit).await?;
            Ok(ForceRotateResponse::response(rotated, context))
        })
        .await
}

/// That an organization has no live key any more, or that a key has ended.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Revoked)]
pub struct RevokeKeysResponse {
    revoked: bool,
    #[schema(examples("org_acme_2026_example"))]
    org_id: String,
    revoked_at: Timestamp,
    /// The memberships that began by invitations of what ended, the newest 500. They go on; the
    /// invitations that were open have ended.
    memberships: Vec<JoinedMembership>,
    #[serde(flatten)]
    stamp: ResponseMeta,
}

impl RevokeKeysResponse {
    /// What is told of what ended in the organization `org_id`.
    pub fn new(
        org_id: String,
        joined: Vec<KeyInvitedMembership>,
        context: &RequestContext,
    ) -> Self {
        let memberships = joined.into_iter().map(JoinedMembership::from).collect();
        let (revoked_at, stamp) = (Timestamp(context.received_at), ResponseMeta::from(context));
        Self { revoked: true, org_id, revoked_at, memberships, stamp }
    }
}

/// End every key of an organization at once, with the open invitations of its keys.
///
/// Those are what the keys made or sent again last. The answer names the memberships that began by
/// the others.
#[utoipa::path(post, path = "/v1/admin/org/{id}/force-revoke", operation_id = "forceRevokeKeys",
    tag = "operator", request_body = Confirmation,
    params(("id" = String, Path, description = "The organization's id."),
           RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "They have ended.", body = RevokeKeysResponse),
              BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn revoke(
    State(app): State<App>,
    change: OrganizationChange<OrgForceRevoke, Confirmation>,
) -> Result<Response> {
    change
        .run(&app, async |tx, _, on, context| {
            let (standing, joined) =
                provisioning::force_revoke(tx, &on.handle, &on.actor, &on.audit).await?;
            Ok(RevokeKeysResponse::new(standing.handle, joined, context))
        })
        .await
}
