//! `/api/user/organizations/{organizationId}`

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::organizations;
use crate::error::{Error, Issue, Result};
use crate::http::auth::{OrganizationRead, OrganizationScoped, OrganizationWrite, OwnerInSession};
use crate::http::body::{Fields, FromFields, JsonBody, JsonNode, text};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, TooLarge, Unauthorized, Unavailable,
    UnsupportedMediaType,
};
use crate::http::user::responses::{DONE, Done, Success};
use crate::http::user::wire::Organization;
use crate::model::ValidationError;
use crate::model::leak::LeakPolicy;
use crate::model::names::OrganizationName;
use crate::model::organization::OrganizationChanges;
use crate::model::origin::{Origin, parse_origin_list};

/// Show an organization.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}",
    operation_id = "getOrganization", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The organization.", body = Success<Organization>),
              BadRequest, Unauthorized, Forbidden, Unavailable))]
pub(super) async fn show(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<OrganizationRead>,
) -> Result<Json<Success<Organization>>> {
    let (id, role) = (caller.organization, caller.role);
    let organization = app
        .db
        .tenant_transaction(caller.organization, async |db| organizations::find(db, id, role).await)
        .await?;
    Ok(Json(Success::ok("Organization fetched", organization.into())))
}

/// The settings to change, at least one. Omitted settings keep their values.
#[derive(ToSchema)]
#[schema(as = user::UpdateOrganizationRequest)]
#[expect(non_snake_case, reason = "the contract's field name")]
pub struct UpdateOrganizationRequest {
    #[schema(value_type = Option<String>, nullable = false, min_length = 1, max_length = 128,
             examples("Acme"))]
    name: Option<OrganizationName>,
    /// The origins whose scripts may use the organization's keys in browsers, in addition to the
    /// deployment's trusted origins; an empty list allows every origin.
    #[schema(value_type = Option<Vec<String>>, nullable = false, max_items = 50,
             examples("https://app.example.com"))]
    allowedOrigins: Option<Vec<Origin>>,
    /// What is done with a key that is reported as leaked, beside a mail to the owners: `notify`
    /// (nothing), `disable` (which can be undone) or `revoke`. A personal access token cannot be
    /// disabled and is revoked instead. With `allowedOrigins`, the organization's keys are public
    /// and continue to work.
    #[schema(value_type = Option<String>, nullable = false, examples("disable"))]
    leakPolicy: Option<LeakPolicy>,
}

impl FromFields for UpdateOrganizationRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        if fields.is_empty() {
            fields.add_body_issue("At least one setting is required");
        }
        let name = fields.non_null("name", text(OrganizationName::parse));
        let allowed_origins = fields.non_null("allowedOrigins", parse_origins);
        let leak_policy = fields.non_null_choice("leakPolicy", &LeakPolicy::ALL);
        Some(Self { name, allowedOrigins: allowed_origins, leakPolicy: leak_policy })
    }
}

/// Parses a list of origins and removes duplicates.
fn parse_origins(node: JsonNode) -> Result<Vec<Origin>, ValidationError> {
    parse_origin_list(node.into_strings()?.iter().map(String::as_str))
}

/// Update an organization's settings.
#[utoipa::path(put, path = "/api/user/organizations/{organizationId}",
    operation_id = "updateOrganization", tag = "user", request_body = UpdateOrganizationRequest,
    params(("organizationId" = String, Path, description = "The organization's id."),
           IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Updated.", body = Success<Organization>), BadRequest,
              Unauthorized, Forbidden, Conflict, TooLarge, UnsupportedMediaType, IdempotencyReused,
              Unavailable))]
pub(super) async fn update(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<OrganizationWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: request, fingerprint }: JsonBody<UpdateOrganizationRequest>,
) -> Result<Response> {
    let UpdateOrganizationRequest { name, allowedOrigins, leakPolicy } = request;
    let changes =
        OrganizationChanges { name, allowed_origins: allowedOrigins, leak_policy: leakPolicy };
    idempotency
        .run(&app, &caller, fingerprint, async |tx| {
            let organization =
                organizations::update(tx, &caller, &changes, &context.audit_context()).await?;
            let body = Success::ok("Organization updated", Organization::from(organization));
            Ok(ChangeResponse::ok(body))
        })
        .await
}

/// Confirms which organization to delete.
#[derive(ToSchema)]
#[schema(as = user::DeleteOrganizationRequest)]
pub struct DeleteOrganizationRequest {
    /// The organization's id.
    #[schema(examples("org_79d0fHwDRh"))]
    confirm: String,
}

impl FromFields for DeleteOrganizationRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let confirm = fields.required("confirm", JsonNode::into_string);
        Some(Self { confirm: confirm? })
    }
}

/// Delete an organization. Its keys, memberships and invitations stop working immediately.
///
/// Its id is never reused.
#[utoipa::path(delete, path = "/api/user/organizations/{organizationId}",
    operation_id = "deleteOrganization", tag = "user", request_body = DeleteOrganizationRequest,
    params(("organizationId" = String, Path, description = "The organization's id.")),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "Deleted.", body = Success<Done>), BadRequest,
              Unauthorized, Forbidden, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn delete(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<OwnerInSession>,
    context: RequestContext,
    _: Idempotency,
    JsonBody { value: request, .. }: JsonBody<DeleteOrganizationRequest>,
) -> Result<Json<Success<Done>>> {
    if request.confirm != caller.organization_handle {
        let issue = Issue::field("confirm", "must be the id of the organization");
        return Err(Error::invalid(vec![issue]));
    }
    let audit = context.audit_context();
    app.db
        .tenant_transaction(caller.organization, async |tx| {
            organizations::delete(tx, &caller, &audit).await
        })
        .await?;
    Ok(Json(Success::ok("Organization deleted", DONE)))
}
