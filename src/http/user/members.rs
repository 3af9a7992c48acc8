//! `/api/user/organizations/{organizationId}/members`, and the caller's own membership.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::organizations::members;
use crate::error::{Error, Result};
use crate::http::auth::{
    MembersRead, MembersWrite, OrganizationRead, OrganizationScoped, OwnMembership,
};
use crate::http::body::{Fields, FromFields, JsonBody, RequestFingerprint, parse_role};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::path::PathId;
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, NotFound, TooLarge, Unauthorized,
    Unavailable, UnsupportedMediaType,
};
use crate::http::user::offset_page::OffsetPage;
use crate::http::user::responses::{DONE, Done, OffsetList, Success};
use crate::http::wire::Timestamp;
use crate::model;
use crate::model::ids::AccountId;
use crate::model::role::Role;
use crate::repo;

/// A membership in an organization.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Member)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    #[schema(examples("user_FuHtj0C14AaKHJq1"))]
    id: String,
    /// Null for the owner's membership of an organization that was created without an account,
    /// until an account claims it.
    #[schema(required, examples("acc_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    account_id: Option<String>,
    #[schema(required, examples("you@example.com"))]
    email: Option<String>,
    #[schema(required, examples("Your Name"))]
    full_name: Option<String>,
    /// `owner`, `admin` or `member`.
    #[schema(examples("owner"))]
    role: &'static str,
    joined_at: Timestamp,
}

impl From<model::member::Member> for Member {
    fn from(member: model::member::Member) -> Self {
        Self {
            id: member.handle,
            account_id: member.account.as_ref().map(AccountId::to_string),
            email: member.email,
            full_name: member.name,
            role: member.role.as_str(),
            joined_at: Timestamp(member.joined_at),
        }
    }
}

/// Show the caller's own membership; for an organization key, the membership that created it.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/my-membership",
    operation_id = "getMyMembership", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The membership.", body = Success<Member>), BadRequest,
              Unauthorized, Forbidden, NotFound, Unavailable))]
pub(super) async fn my_membership(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<OrganizationRead>,
) -> Result<Json<Success<Member>>> {
    let (organization, handle) = (caller.organization, &caller.membership_handle);
    let member = app
        .db
        .tenant_transaction(caller.organization, async |db| {
            repo::members::find(db, organization, handle).await
        })
        .await?;
    let member = member.ok_or_else(|| Error::not_found("There is no such member"))?;
    Ok(Json(Success::ok("Membership fetched", member.into())))
}

/// List an organization's members.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/members",
    operation_id = "listMembers", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("offset" = Option<i64>, Query, description = "How many items to skip. Default: 0."),
           ("limit" = Option<i64>, Query, description = "Page size, 1 to 100. Default: 20."),
           ("q" = Option<String>, Query,
            description = "Text that the name or the address must contain.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The members.", body = OffsetList<Member>), BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<MembersRead>,
    page: OffsetPage,
) -> Result<Json<OffsetList<Member>>> {
    let organization = caller.organization;
    page.respond(
        &app,
        organization,
        ("Members fetched", Member::from),
        async |db, search, window| repo::members::list(db, organization, search, window).await,
    )
    .await
}

/// The new role.
#[derive(ToSchema)]
#[schema(as = user::ChangeRoleRequest)]
pub struct ChangeRoleRequest {
    /// `owner`, `admin` or `member`.
    #[schema(value_type = String, examples("admin"))]
    role: Role,
}

impl FromFields for ChangeRoleRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let role = fields.required("role", parse_role);
        Some(Self { role: role? })
    }
}

/// Change the role of a member.
///
/// Only owners may grant or change the role `owner`. The last owner cannot be demoted.
#[utoipa::path(put, path = "/api/user/organizations/{organizationId}/members/{userId}/role",
    operation_id = "changeMemberRole", tag = "user", request_body = ChangeRoleRequest,
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("userId" = String, Path, description = "The membership's id."),
           IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Changed.", body = Success<Member>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMediaType,
              IdempotencyReused,
              Unavailable))]
pub(super) async fn change_role(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<MembersWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    PathId(user): PathId,
    JsonBody { value: request, fingerprint }: JsonBody<ChangeRoleRequest>,
) -> Result<Response> {
    let check = async |_: &mut _| members::require_role_for(&caller, request.role);
    idempotency
        .run_checked(&app, &caller, fingerprint, check, async |tx| {
            let (role, audit) = (request.role, context.audit_context());
            let member = members::change_role(tx, &caller, &user, role, &audit).await?;
            let body = Success::ok("Role changed", Member::from(member));
            Ok(ChangeResponse::ok(body))
        })
        .await
}

/// Remove a member, or leave the organization.
///
/// From the next request on, the account's sessions and tokens have no access to the organization.
/// Only owners may remove owners. The last owner cannot be removed.
#[utoipa::path(delete, path = "/api/user/organizations/{organizationId}/members/{userId}",
    operation_id = "removeMember", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("userId" = String, Path, description = "The membership's id."),
           IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Removed.", body = Success<Done>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn remove(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<OwnMembership>,
    context: RequestContext,
    idempotency: Idempotency,
    PathId(user): PathId,
) -> Result<Response> {
    let check = async |_: &mut _| members::require_right_to_remove(&caller, &user);
    idempotency
        .run_checked(&app, &caller, RequestFingerprint::NOTHING, check, async |tx| {
            members::remove(tx, &caller, &user, &context.audit_context()).await?;
            let body = Success::ok("Member removed", DONE);
            Ok(ChangeResponse::ok(body))
        })
        .await
}
