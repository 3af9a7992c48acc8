//! `POST /v1/admin/org/{id}/force-rotate` and `/force-revoke`: the operator replaces or revokes the
//! keys of an organization, for example when they have leaked.

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
use crate::http::operator::idempotency::RequiredIdempotencyHeader;
use crate::http::operator::organization_change::OrganizationChange;
use crate::http::operator::wire::{Confirmation, JoinedMembership, KEY_WARNING, ResponseMeta};
use crate::http::render::operator::{
    BadRequest, Conflict, NotFound, RateLimited, TooLarge, Unauthorized, Unavailable,
    Unprocessable, UnsupportedMediaType,
};
use crate::http::shown_once::ShownOnce;
use crate::http::wire::Timestamp;
use crate::model::member::KeyInvitedMembership;

/// An organization's new key.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::ForceRotated)]
pub struct ForceRotateResponse {
    rotated: bool,
    #[schema(examples("org_acme_2026_example"))]
    org_id: String,
    /// The key's text. Only the first response contains it; a replay does not.
    #[serde(skip_serializing_if = "ShownOnce::is_hidden")]
    #[schema(value_type = Option<String>, nullable = false, examples("tnt_live_a1b2c3d4…"))]
    new_api_key: ShownOnce,
    /// The 8 characters after the prefix of the key's text, to tell keys apart.
    #[schema(examples("a1b2c3d4"))]
    prefix: String,
    rotated_at: Timestamp,
    /// The newest 500 memberships that were created by accepting invitations of the organization's
    /// keys. They continue; the keys' open invitations are revoked.
    memberships: Vec<JoinedMembership>,
    warning: &'static str,
    #[serde(flatten)]
    stamp: ResponseMeta,
}

impl ForceRotateResponse {
    /// Describes the result of a forced rotation.
    pub fn new(rotated: ForceRotation, context: &RequestContext) -> Self {
        let CreatedKey { secret, key } = rotated.created_key;
        Self {
            rotated: true,
            org_id: rotated.status.handle,
            new_api_key: secret.into(),
            prefix: key.display_id,
            rotated_at: Timestamp(context.received_at),
            memberships: rotated.memberships.into_iter().map(JoinedMembership::from).collect(),
            warning: KEY_WARNING,
            stamp: ResponseMeta::from(context),
        }
    }
}

/// Create a new key of an organization, and revoke all its other keys.
///
/// The open invitations that its keys created or were the last to resend are revoked, too. The
/// response lists the memberships that were created by accepting invitations of its keys. Only the
/// first response contains the new key's text. A suspended organization stays suspended.
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
        .run(&app, async |tx, _, change, context| {
            let (handle, actor, audit) = (&change.handle, change.actor, &change.audit);
            let rotated = provisioning::force_rotate(&app, tx, handle, actor, audit).await?;
            Ok(ForceRotateResponse::new(rotated, context))
        })
        .await
}

/// Confirms that the key, or all keys of the organization, are revoked.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Revoked)]
pub struct RevokeKeysResponse {
    revoked: bool,
    #[schema(examples("org_acme_2026_example"))]
    org_id: String,
    revoked_at: Timestamp,
    /// The newest 500 memberships that were created by accepting invitations of these keys. They
    /// continue; the keys' open invitations are revoked.
    memberships: Vec<JoinedMembership>,
    #[serde(flatten)]
    stamp: ResponseMeta,
}

impl RevokeKeysResponse {
    /// Describes the revocation of keys of the organization `org_id`.
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

/// Revoke all keys of an organization, effective immediately.
///
/// The open invitations that the keys created or were the last to resend are revoked, too. The
/// response lists the memberships that were created by accepting invitations of the keys.
#[utoipa::path(post, path = "/v1/admin/org/{id}/force-revoke", operation_id = "forceRevokeKeys",
    tag = "operator", request_body = Confirmation,
    params(("id" = String, Path, description = "The organization's id."),
           RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "The keys are revoked.", body = RevokeKeysResponse),
              BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn revoke(
    State(app): State<App>,
    change: OrganizationChange<OrgForceRevoke, Confirmation>,
) -> Result<Response> {
    change
        .run(&app, async |tx, _, change, context| {
            let (organization, joined) =
                provisioning::force_revoke(tx, &change.handle, change.actor, &change.audit).await?;
            Ok(RevokeKeysResponse::new(organization.handle, joined, context))
        })
        .await
}
