//! Finds organizations, and sets their external ids, metadata, rate limits and credits.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::organizations::settings::{self, SettingsChanges};
use crate::error::Result;
use crate::http::auth::{MasterKeyGuard, OrgSettings};
use crate::http::body::{Fields, FromFields, parse_metadata_changes, text};
use crate::http::edge::context::RequestContext;
use crate::http::limits_and_credits::{
    Credits, CreditsUpdate, NamedRateLimit, SNAKE_CASE, take_credit_change, take_limits_update,
};
use crate::http::operator::idempotency::RequiredIdempotencyHeader;
use crate::http::operator::organization_change::{
    OrganizationChange, OrganizationChangeBody, parse_organization_id,
};
use crate::http::operator::wire::ResponseMeta;
use crate::http::path::PathId;
use crate::http::query::Query;
use crate::http::render::operator::{
    BadRequest, Conflict, NotFound, RateLimited, TooLarge, Unauthorized, Unavailable,
    Unprocessable, UnsupportedMediaType,
};
use crate::http::wire::Timestamp;
use crate::model::credits::CreditChange;
use crate::model::metadata::MetadataChanges;
use crate::model::named_limits::NamedLimits;
use crate::model::names::ExternalId;
use crate::model::organization::FoundOrganization;
use crate::repo::organization_settings;

/// The most organizations that a search returns.
const MAX_FOUND: i64 = 100;

/// An organization and its settings.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Organization)]
pub struct Organization {
    #[schema(examples("org_acme_2026_example"))]
    org_id: String,
    #[schema(examples("Acme Corp"))]
    name: String,
    #[schema(examples("starter"))]
    tier: &'static str,
    /// Whether the organization is active, that is, not suspended.
    active: bool,
    /// The operator's own id for it.
    #[schema(required, examples("cus_1042"))]
    external_id: Option<String>,
    /// The metadata that the operator stores with it.
    #[schema(value_type = Object, examples(json!({ "region": "eu" })))]
    metadata: serde_json::Value,
    /// The rate limits that its credentials share.
    limits: Vec<NamedRateLimit>,
    /// The credits that its credentials share; null if checks (`/v1/verify`) need none.
    #[schema(required)]
    credits: Option<Credits>,
    created_at: Timestamp,
}

impl From<FoundOrganization> for Organization {
    fn from(found: FoundOrganization) -> Self {
        Self {
            org_id: found.handle,
            name: found.name,
            tier: found.plan.as_str(),
            active: !found.is_suspended,
            external_id: found.settings.external_id,
            metadata: found.settings.metadata.to_stored(),
            limits: NamedRateLimit::list(&found.settings.limits),
            credits: found.settings.credits.map(Credits::from),
            created_at: Timestamp(found.created_at),
        }
    }
}

/// A response with one organization.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::OrganizationAnswer)]
pub struct OrganizationResponse {
    #[serde(flatten)]
    organization: Organization,
    #[serde(flatten)]
    stamp: ResponseMeta,
}

/// Organizations that were found.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Organizations)]
pub struct Organizations {
    organizations: Vec<Organization>,
    #[serde(flatten)]
    stamp: ResponseMeta,
}

/// Show an organization and its settings.
#[utoipa::path(get, path = "/v1/admin/org/{id}", operation_id = "getOrganizationSettings",
    tag = "operator",
    params(("id" = String, Path, description = "The organization's id.")),
    security(("master_key" = [])),
    responses((status = 200, description = "The organization.", body = OrganizationResponse),
              BadRequest, Unauthorized, NotFound, RateLimited, Unavailable))]
pub(super) async fn show(
    State(app): State<App>,
    _operator: MasterKeyGuard<OrgSettings>,
    context: RequestContext,
    PathId(id): PathId,
) -> Result<Json<OrganizationResponse>> {
    let handle = parse_organization_id(&id)?;
    let found = app.db.run(async |db| settings::find(db, &handle).await).await?;
    let (organization, stamp) = (found.into(), ResponseMeta::from(&context));
    Ok(Json(OrganizationResponse { organization, stamp }))
}

/// Find the organizations with an id of the operator's own, the newest 100.
#[utoipa::path(get, path = "/v1/admin/orgs", operation_id = "findOrganizations",
    tag = "operator",
    params(("external_id" = String, Query, description = "The operator's own id.")),
    security(("master_key" = [])),
    responses((status = 200, description = "The organizations.", body = Organizations),
              BadRequest, Unauthorized, Unprocessable, RateLimited, Unavailable))]
pub(super) async fn find(
    State(app): State<App>,
    _operator: MasterKeyGuard<OrgSettings>,
    context: RequestContext,
    mut query: Query,
) -> Result<Json<Organizations>> {
    let external_id = query.required("external_id", ExternalId::parse);
    query.finish()?;
    let found = match external_id {
        Some(id) => {
            let list = async |db: &mut _| {
                organization_settings::list_by_external_id(db, &id, MAX_FOUND).await
            };
            app.db.run(list).await?
        }
        None => Vec::new(),
    };
    let organizations = found.into_iter().map(Organization::from).collect();
    Ok(Json(Organizations { organizations, stamp: ResponseMeta::from(&context) }))
}

/// The settings to change, at least one. Omitted settings stay as they are.
#[derive(ToSchema)]
#[schema(as = operator::UpdateSettingsRequest)]
pub struct UpdateSettingsRequest {
    /// The operator's own id for it, at most 128 characters; null removes it.
    #[schema(value_type = Option<String>, max_length = 128, examples("cus_1042"))]
    #[expect(clippy::option_option, reason = "absent, null and an id are three different values")]
    external_id: Option<Option<ExternalId>>,
    /// Strings to add or replace; null removes an entry.
    #[schema(value_type = Option<Object>, nullable = false, examples(json!({ "region": null })))]
    metadata: Option<MetadataChanges>,
    /// Replaces the rate limits that its credentials share.
    #[schema(value_type = Option<Vec<NamedRateLimit>>, nullable = false, max_items = 10)]
    limits: Option<NamedLimits>,
    /// Sets the credits that its credentials share, or adds to them; null removes them, so that
    /// checks of its credentials (`/v1/verify`) need none.
    #[schema(value_type = Option<CreditsUpdate>)]
    credits: Option<CreditChange>,
}

impl FromFields for UpdateSettingsRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        if fields.is_empty() {
            fields.add_body_issue("At least one setting is required");
        }
        Some(Self {
            external_id: fields.nullable("external_id", text(ExternalId::parse)),
            metadata: fields.non_null("metadata", parse_metadata_changes),
            limits: take_limits_update::<SNAKE_CASE>(fields),
            credits: take_credit_change(fields),
        })
    }
}

impl OrganizationChangeBody for UpdateSettingsRequest {}

/// Set an organization's external id, metadata, rate limits and credits.
#[utoipa::path(post, path = "/v1/admin/org/{id}/settings",
    operation_id = "updateOrganizationSettings", tag = "operator",
    request_body = UpdateSettingsRequest,
    params(("id" = String, Path, description = "The organization's id."),
           RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "Updated.", body = OrganizationResponse), BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn update(
    State(app): State<App>,
    change: OrganizationChange<OrgSettings, UpdateSettingsRequest>,
) -> Result<Response> {
    change
        .run(&app, async |tx, request, change, context| {
            let changes = SettingsChanges {
                external_id: request.external_id.clone(),
                metadata: request.metadata.clone(),
                limits: request.limits.clone(),
                credits: request.credits,
            };
            let (handle, actor, audit) = (&change.handle, change.actor, &change.audit);
            let updated = settings::update(tx, handle, &changes, actor, audit).await?;
            let (organization, stamp) = (updated.into(), ResponseMeta::from(context));
            Ok(OrganizationResponse { organization, stamp })
        })
        .await
}
