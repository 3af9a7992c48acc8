//! Types that several of this family's routes share.

use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Issue, Result};
use crate::http::body::{Fields, FromFields, JsonNode};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::Idempotency;
use crate::http::operator::organization_change::OrganizationChangeBody;
use crate::http::wire::Timestamp;
use crate::model::member::KeyInvitedMembership;

/// The warning in every response that contains a key.
pub const KEY_WARNING: &str =
    "This API key is shown ONCE. Store it securely. It cannot be retrieved later.";

/// The fields that a response of `/v1/admin` ends with.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Stamp)]
pub struct ResponseMeta {
    /// The id of the request, as in `X-Request-Id`.
    #[schema(examples("req_4fTq0kXyT1hJc8ZB"))]
    pub request_id: String,
    pub timestamp: Timestamp,
}

impl From<&RequestContext> for ResponseMeta {
    fn from(context: &RequestContext) -> Self {
        Self { request_id: context.id.clone(), timestamp: Timestamp(context.received_at) }
    }
}

/// A membership that was created by accepting an invitation of a key.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::JoinedMembership)]
pub struct JoinedMembership {
    #[schema(examples("user_FuHtj0C14AaKHJq1"))]
    user_id: String,
    /// The current role: `owner`, `admin` or `member`.
    #[schema(examples("admin"))]
    role: &'static str,
    joined_at: Timestamp,
}

impl From<KeyInvitedMembership> for JoinedMembership {
    fn from(joined: KeyInvitedMembership) -> Self {
        let joined_at = Timestamp(joined.joined_at);
        Self { user_id: joined.handle, role: joined.role.as_str(), joined_at }
    }
}

/// Confirms the target of a change.
#[derive(ToSchema)]
#[schema(as = operator::Confirmation)]
pub struct Confirmation {
    /// Must equal the organization's id in the path.
    #[schema(examples("org_acme_2026_example"))]
    confirm_org_id: String,
    /// Must equal the `Idempotency-Key` header.
    #[schema(examples("evt_1RkQ2eLkdIwHu7ix"))]
    idempotency_key: String,
}

impl FromFields for Confirmation {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let confirm_org_id = fields.required("confirm_org_id", JsonNode::into_string);
        let idempotency_key = fields.required("idempotency_key", JsonNode::into_string);
        Some(Self { confirm_org_id: confirm_org_id?, idempotency_key: idempotency_key? })
    }
}

impl OrganizationChangeBody for Confirmation {
    fn check_target(&self, id: &str, idempotency: &Idempotency) -> Result<()> {
        let mut issues = Vec::new();
        if self.confirm_org_id != id {
            issues.push(Issue::field("confirm_org_id", "must equal the id in the path"));
        }
        if !idempotency.key_equals(&self.idempotency_key) {
            issues.push(Issue::field("idempotency_key", "must equal the Idempotency-Key header"));
        }
        if issues.is_empty() { Ok(()) } else { Err(Error::invalid(issues)) }
    }
}

/// A body without fields.
#[derive(ToSchema)]
#[schema(as = operator::Empty)]
pub struct EmptyBody {}

impl FromFields for EmptyBody {
    fn from_fields(_: &mut Fields<'_>) -> Option<Self> {
        Some(Self {})
    }
}

impl OrganizationChangeBody for EmptyBody {}
