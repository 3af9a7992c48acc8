//! `/api/user/organizations/{organizationId}/app-policy`

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::oauth::policy;
use crate::error::Result;
use crate::http::auth::{AppPolicyRead, OrganizationScoped, OrganizationWrite};
use crate::http::body::{Fields, FromFields, JsonBody, JsonNode};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, NotFound, TooLarge, Unauthorized,
    Unavailable, UnsupportedMediaType,
};
use crate::http::switches::OauthIsOn;
use crate::http::user::responses::Success;
use crate::model::oauth::AppPolicyMode;
use crate::model::oauth::app::are_distinct;
use crate::model::oauth::app_policy::{self, MAX_RULES};
use crate::repo::app_policies;

/// The modes with their wire names.
const MODES: [(AppPolicyMode, &str); 3] = [
    (AppPolicyMode::Open, AppPolicyMode::Open.as_str()),
    (AppPolicyMode::Approved, AppPolicyMode::Approved.as_str()),
    (AppPolicyMode::None, AppPolicyMode::None.as_str()),
];

/// Which apps the members of an organization may grant access to.
#[derive(Serialize, ToSchema)]
#[schema(as = user::AppPolicy)]
pub struct AppPolicy {
    /// `open`: all that are not blocked; `approved`: only the allowed ones; `none`.
    #[schema(examples("approved"))]
    mode: &'static str,
    /// The client ids of the allowed apps.
    #[schema(examples("app_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    allowed: Vec<String>,
    /// The client ids of the apps that are blocked in every mode.
    blocked: Vec<String>,
}

impl From<app_policy::AppPolicy> for AppPolicy {
    fn from(policy: app_policy::AppPolicy) -> Self {
        let app_policy::AppPolicy { mode, allowed, blocked } = policy;
        Self { mode: mode.as_str(), allowed, blocked }
    }
}

/// The policy that was set.
#[derive(Serialize, ToSchema)]
#[schema(as = user::UpdatedAppPolicy)]
#[serde(rename_all = "camelCase")]
pub struct UpdatedAppPolicy {
    #[serde(flatten)]
    policy: AppPolicy,
    /// The number of grants that it does not permit, and that were revoked.
    #[schema(examples(2))]
    revoked_grants: usize,
}

/// Show which apps the organization's members may grant access to.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/app-policy",
    operation_id = "getAppPolicy", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The policy.", body = Success<AppPolicy>), BadRequest,
              Unauthorized, Forbidden, NotFound, Unavailable))]
pub(super) async fn show(
    _: OauthIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<AppPolicyRead>,
) -> Result<Json<Success<AppPolicy>>> {
    let organization = caller.organization;
    let find = async |db: &mut _| app_policies::find(db, organization).await;
    let found = app.db.tenant_transaction(organization, find).await?;
    Ok(Json(Success::ok("App policy fetched", found.into())))
}

/// The policy to set. It replaces the whole policy.
#[derive(ToSchema)]
#[schema(as = user::UpdateAppPolicyRequest)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct UpdateAppPolicyRequest {
    /// `open`: all that are not blocked; `approved`: only the allowed ones; `none`.
    #[schema(examples("approved"))]
    mode: String,
    /// The client ids of the allowed apps. Default: none.
    #[schema(max_items = 100)]
    allowed: Option<Vec<String>>,
    /// The client ids of the apps that are blocked in every mode. Default: none.
    #[schema(max_items = 100)]
    blocked: Option<Vec<String>>,
}

/// A parsed [`UpdateAppPolicyRequest`].
pub struct UpdateAppPolicy(app_policy::AppPolicy);

impl FromFields for UpdateAppPolicy {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let mode = fields.required_choice("mode", &MODES);
        let mut clients = |name| {
            if fields.is_null(name) {
                fields.ignore(&[name]);
            }
            fields.non_null_items(name, 0..=MAX_RULES, JsonNode::into_string).unwrap_or_default()
        };
        let (allowed, blocked) = (clients("allowed"), clients("blocked"));
        if !are_distinct(allowed.iter().chain(&blocked).map(String::as_str)) {
            fields.add_body_issue("`allowed` and `blocked` must not name an app twice");
        }
        Some(Self(app_policy::AppPolicy { mode: mode?, allowed, blocked }))
    }
}

/// Set which apps the organization's members may grant access to.
///
/// What members granted to apps that are no longer permitted is revoked. Only an owner can set the
/// mode `open` again.
#[utoipa::path(put, path = "/api/user/organizations/{organizationId}/app-policy",
    operation_id = "updateAppPolicy", tag = "user", request_body = UpdateAppPolicyRequest,
    params(("organizationId" = String, Path, description = "The organization's id."),
           IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Changed.", body = Success<UpdatedAppPolicy>),
              BadRequest, Unauthorized, Forbidden, NotFound, Conflict, TooLarge,
              UnsupportedMediaType, IdempotencyReused, Unavailable))]
pub(super) async fn update(
    _: OauthIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<OrganizationWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: UpdateAppPolicy(wanted), fingerprint }: JsonBody<UpdateAppPolicy>,
) -> Result<Response> {
    idempotency
        .run(&app, &caller, fingerprint, async |tx| {
            let (policy, revoked_grants) =
                policy::update(tx, &caller, &wanted, &context.audit_context()).await?;
            let updated = UpdatedAppPolicy { policy: policy.into(), revoked_grants };
            Ok(ChangeResponse::ok(Success::ok("App policy updated", updated)))
        })
        .await
}
