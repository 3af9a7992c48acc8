//! `/api/user/organizations/{organizationId}/sso/domains`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::app::dns::LOOKUP_DEADLINE;
use crate::domain::sso::domains::{self, ProvenDomain, no_such_domain};
use crate::error::{Error, Result};
use crate::http::auth::{OrganizationScoped, SsoRead, SsoWrite};
use crate::http::body::{Fields, FromFields, JsonBody, RequestFingerprint, text};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::edge::{rate_limits, shedding};
use crate::http::family::RouteKind;
use crate::http::path::PathId;
use crate::http::render::user::{
    BadRequest, Conflict, DomainRecordNotFound, Forbidden, IdempotencyReused, NotFound, TooLarge,
    Unauthorized, Unavailable, UnsupportedMediaType,
};
use crate::http::switches::SsoIsOn;
use crate::http::user::offset_page::OffsetPage;
use crate::http::user::responses::{DONE, Done, OffsetList, Success};
use crate::http::wire::Timestamp;
use crate::model::caller::Caller;
use crate::model::ids::DomainId;
use crate::model::rate_limit::RateLimit;
use crate::model::sso::domain;
use crate::model::sso::domain_name::DomainName;
use crate::repo::sso_domains;

/// The kind of the route that waits for DNS servers.
pub const VERIFY: RouteKind = RouteKind::WRITE.waiting(LOOKUP_DEADLINE);

/// The TXT record that proves a domain.
#[derive(Serialize, ToSchema)]
#[schema(as = user::SsoDomainRecord)]
pub struct DomainRecord {
    /// Its name.
    #[schema(examples("_tenantry-verification.acme.example"))]
    name: String,
    /// Its value.
    #[schema(examples("tenantry-domain=1yKkdhvjMTtAJFCYGXOMzg3JY3vYX8eb3fLbWQ4h"))]
    value: String,
}

/// A domain of an organization, for single sign-on.
#[derive(Serialize, ToSchema)]
#[schema(as = user::SsoDomain)]
#[serde(rename_all = "camelCase")]
pub struct SsoDomain {
    #[schema(examples("dom_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    /// Its name, as A-labels.
    #[schema(examples("acme.example"))]
    domain: String,
    /// `pending`: not verified yet; `verified`; `lost`: its record was absent for 7 days.
    #[schema(examples("verified"))]
    status: &'static str,
    record: DomainRecord,
    /// When it was last verified.
    #[schema(required)]
    verified_at: Option<Timestamp>,
    /// When its record was last found. It is looked up daily.
    #[schema(required)]
    last_seen_at: Option<Timestamp>,
    /// Since when its record is absent. After 7 days, the domain is lost.
    #[schema(required)]
    absent_since: Option<Timestamp>,
    /// When it was lost.
    #[schema(required)]
    lost_at: Option<Timestamp>,
    created_at: Timestamp,
}

impl From<domain::SsoDomain> for SsoDomain {
    fn from(domain: domain::SsoDomain) -> Self {
        Self {
            id: domain.id.to_string(),
            status: domain.status().as_str(),
            record: DomainRecord {
                name: domain::record_name(&domain.name),
                value: domain.record_value(),
            },
            domain: domain.name.to_string(),
            verified_at: domain.verified_at.map(Timestamp),
            last_seen_at: domain.last_seen_at.map(Timestamp),
            absent_since: domain.absent_since.map(Timestamp),
            lost_at: domain.lost_at.map(Timestamp),
            created_at: Timestamp(domain.created_at),
        }
    }
}

/// The domain to add.
#[derive(ToSchema)]
#[schema(as = user::AddSsoDomainRequest)]
pub struct AddDomainRequest {
    /// Its name, which may be internationalized: not a public suffix, nor the domain of a public
    /// mail provider. Each sub-domain is added on its own.
    #[schema(value_type = String, min_length = 3, max_length = 230, examples("acme.example"))]
    domain: DomainName,
}

impl FromFields for AddDomainRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { domain: fields.required("domain", text(DomainName::parse))? })
    }
}

fn parse_id(text: &str) -> Result<DomainId> {
    DomainId::parse(text).ok_or_else(no_such_domain)
}

/// List the organization's domains for single sign-on, newest first.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/sso/domains",
    operation_id = "listSsoDomains", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("offset" = Option<i64>, Query, description = "How many items to skip. Default: 0."),
           ("limit" = Option<i64>, Query, description = "Page size, 1 to 100. Default: 20."),
           ("q" = Option<String>, Query, description = "Text that the name must contain.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The domains.", body = OffsetList<SsoDomain>),
              BadRequest, Unauthorized, Forbidden, NotFound, Unavailable))]
pub(super) async fn list(
    _: SsoIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<SsoRead>,
    page: OffsetPage,
) -> Result<Json<OffsetList<SsoDomain>>> {
    let organization = caller.organization;
    let render = ("Domains fetched", SsoDomain::from);
    page.respond(&app, organization, render, async |db, search, window| {
        sso_domains::list(db, organization, search, window).await
    })
    .await
}

/// Add a domain for single sign-on. The response shows the DNS record that verifies it.
#[utoipa::path(post, path = "/api/user/organizations/{organizationId}/sso/domains",
    operation_id = "addSsoDomain", tag = "user", request_body = AddDomainRequest,
    params(("organizationId" = String, Path, description = "The organization's id."),
           IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 201, description = "Added.", body = Success<SsoDomain>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMediaType,
              IdempotencyReused, Unavailable))]
pub(super) async fn add(
    _: SsoIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<SsoWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: request, fingerprint }: JsonBody<AddDomainRequest>,
) -> Result<Response> {
    let audit = context.audit_context_for(StatusCode::CREATED);
    idempotency
        .run(&app, &caller, fingerprint, async |tx| {
            let added = domains::add(&app, tx, &caller, &request.domain, &audit).await?;
            let body = Success::created("Domain added", SsoDomain::from(added));
            Ok(ChangeResponse::created(body))
        })
        .await
}

/// Verify a domain: its TXT record is looked up.
///
/// The record must have exactly the value that the domain shows. It proves this domain alone. If
/// another organization has verified the domain, the code is `DOMAIN_TAKEN`.
#[utoipa::path(post, path = "/api/user/organizations/{organizationId}/sso/domains/{id}/verify",
    operation_id = "verifySsoDomain", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The domain's id."), IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Verified.", body = Success<SsoDomain>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, DomainRecordNotFound, Unavailable))]
pub(super) async fn verify(
    _: SsoIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<SsoWrite>,
    PathId(id): PathId,
    context: RequestContext,
    idempotency: Idempotency,
) -> Result<Response> {
    let id = parse_id(&id)?;
    let mut proven = None;
    if !idempotency.is_replay(&app, &caller, &RequestFingerprint::NOTHING).await? {
        proven = Some(prove(&app, &context, &caller, id).await?);
    }
    idempotency
        .run(&app, &caller, RequestFingerprint::NOTHING, async |tx| {
            let proven = proven.ok_or_else(|| Error::internal("a replay is no first request"))?;
            let audit = context.audit_context();
            let verified = domains::verify(tx, &caller, &proven, &audit).await?;
            Ok(ChangeResponse::ok(Success::ok("Domain verified", SsoDomain::from(verified))))
        })
        .await
}

/// Looks up the record of a domain. The request has no permit while it waits.
async fn prove(
    app: &App,
    context: &RequestContext,
    caller: &Caller,
    id: DomainId,
) -> Result<ProvenDomain> {
    let organization = caller.organization;
    let limit = (RateLimit::DomainChecks, organization);
    rate_limits::count_for_organization(app, context, limit).await?;
    let find = async |db: &mut _| domains::find(db, organization, id).await;
    let domain = app.db.tenant_transaction(organization, find).await?;
    shedding::await_without_permits(app, context, domains::prove(app, domain)).await
}

/// Delete a domain, effective immediately.
#[utoipa::path(delete, path = "/api/user/organizations/{organizationId}/sso/domains/{id}",
    operation_id = "deleteSsoDomain", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The domain's id."), IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Deleted.", body = Success<Done>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn delete(
    _: SsoIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<SsoWrite>,
    PathId(id): PathId,
    context: RequestContext,
    idempotency: Idempotency,
) -> Result<Response> {
    let id = parse_id(&id)?;
    idempotency
        .run(&app, &caller, RequestFingerprint::NOTHING, async |tx| {
            domains::delete(tx, &caller, id, &context.audit_context()).await?;
            Ok(ChangeResponse::ok(Success::ok("Domain deleted", DONE)))
        })
        .await
}
