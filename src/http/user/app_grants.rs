//! `/api/user/organizations/{organizationId}/app-grants`: what members granted to apps.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::oauth::grant_revocation::{self, no_such_grant};
use crate::error::Result;
use crate::http::auth::{AppGrantsRead, MembersWrite, OrganizationScoped};
use crate::http::body::RequestFingerprint;
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::path::PathId;
use crate::http::query::Query;
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, NotFound, Unauthorized, Unavailable,
};
use crate::http::switches::OauthIsOn;
use crate::http::user::offset_page::OffsetPage;
use crate::http::user::responses::{DONE, Done, OffsetList, Success};
use crate::http::wire::Timestamp;
use crate::model::ValidationError;
use crate::model::ids::{AccountId, GrantId};
use crate::model::oauth::app_grant::{GrantFilter, ListedGrant};
use crate::model::scope::ScopeCatalogue;
use crate::repo;

/// The maximum length of a client id, which may be a URL, in bytes.
const MAX_CLIENT_ID_LENGTH: usize = 2_048;

/// What a person granted to an app.
#[derive(Serialize, ToSchema)]
#[schema(as = user::AppGrant)]
#[serde(rename_all = "camelCase")]
pub struct AppGrant {
    #[schema(examples("grant_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    client: GrantedClient,
    /// The person's account. Only the organization's list contains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("acc_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    account_id: Option<String>,
    /// The person's address. Only the organization's list contains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("ann@example.com"))]
    email: Option<String>,
    /// The organization; null if the app may use only the person's own account.
    #[schema(required, examples("org_79d0fHwDRh"))]
    organization_id: Option<String>,
    #[schema(examples("projects:read", "projects:write"))]
    scopes: Vec<String>,
    /// Those of the scopes that the person's role permits now.
    #[schema(examples("projects:read"))]
    effective_scopes: Vec<String>,
    /// The services that its tokens may be for.
    resources: Vec<String>,
    created_at: Timestamp,
    #[schema(required)]
    last_used_at: Option<Timestamp>,
}

/// The app that a grant is for.
#[derive(Serialize, ToSchema)]
#[schema(as = user::GrantedClient)]
#[serde(rename_all = "camelCase")]
pub struct GrantedClient {
    #[schema(examples("app_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    client_id: String,
    #[schema(examples("Acme Reports"))]
    name: String,
    /// `registered` by an organization, known by its metadata `document`, or `dynamic`: it
    /// registered itself.
    #[schema(examples("registered"))]
    kind: &'static str,
    /// Whether the operator has published it.
    verified: bool,
}

impl AppGrant {
    /// Describes a grant to the person who granted it.
    pub(super) fn of_person(grant: ListedGrant, catalogue: &ScopeCatalogue) -> Self {
        Self {
            id: grant.id.to_string(),
            effective_scopes: grant.effective_scopes(catalogue),
            client: GrantedClient {
                client_id: grant.client_id,
                name: grant.client_name,
                kind: grant.client_kind.as_str(),
                verified: grant.is_verified,
            },
            account_id: None,
            email: None,
            organization_id: grant.organization_handle,
            scopes: grant.scopes,
            resources: grant.resources,
            created_at: Timestamp(grant.created_at),
            last_used_at: grant.last_used_at.map(Timestamp),
        }
    }

    /// Describes a grant to the organization that it is for.
    fn of_organization(mut grant: ListedGrant, catalogue: &ScopeCatalogue) -> Self {
        let (account, email) = (grant.account.to_string(), grant.email.take());
        Self { account_id: Some(account), email, ..Self::of_person(grant, catalogue) }
    }
}

fn parse_client_id(text: &str) -> Result<String, ValidationError> {
    if text.len() <= MAX_CLIENT_ID_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("must be the id of an app".into())
    }
}

fn parse_account_id(text: &str) -> Result<AccountId, ValidationError> {
    AccountId::parse(text).ok_or_else(|| "must be the id of an account".into())
}

/// Parses the id in a path.
///
/// # Errors
/// Not found if the text is not the id of a grant.
pub(super) fn parse_id(text: &str) -> Result<GrantId> {
    GrantId::parse(text).ok_or_else(no_such_grant)
}

/// List what the organization's members granted to apps, newest first.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/app-grants",
    operation_id = "listAppGrants", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("offset" = Option<i64>, Query, description = "How many items to skip. Default: 0."),
           ("limit" = Option<i64>, Query, description = "Page size, 1 to 100. Default: 20."),
           ("q" = Option<String>, Query,
            description = "Text that the app's name or the person's address must contain."),
           ("clientId" = Option<String>, Query, description = "Only grants to this app."),
           ("accountId" = Option<String>, Query, description = "Only grants of this account.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The grants.", body = OffsetList<AppGrant>), BadRequest,
              Unauthorized, Forbidden, NotFound, Unavailable))]
pub(super) async fn list(
    _: OauthIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<AppGrantsRead>,
    mut query: Query,
) -> Result<Json<OffsetList<AppGrant>>> {
    let page = OffsetPage::from_query(&mut query);
    let filter = GrantFilter {
        client_id: query.optional("clientId", parse_client_id),
        account: query.optional("accountId", parse_account_id),
    };
    query.finish()?;
    let (organization, catalogue) = (caller.organization, &app.config.keys.scopes);
    let render = |grant| AppGrant::of_organization(grant, catalogue);
    let message = "App grants fetched";
    page.respond(&app, organization, (message, render), async |db, search, window| {
        repo::app_grants::list(db, organization, &filter, search, window).await
    })
    .await
}

/// Revoke what a member granted to an app, effective immediately. Revoking it again is no error.
#[utoipa::path(delete, path = "/api/user/organizations/{organizationId}/app-grants/{id}",
    operation_id = "revokeAppGrant", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The grant's id."), IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Revoked.", body = Success<Done>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn revoke(
    _: OauthIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<MembersWrite>,
    PathId(id): PathId,
    context: RequestContext,
    idempotency: Idempotency,
) -> Result<Response> {
    let id = parse_id(&id)?;
    idempotency
        .run(&app, &caller, RequestFingerprint::NOTHING, async |tx| {
            grant_revocation::revoke(tx, &caller, id, &context.audit_context()).await?;
            Ok(ChangeResponse::ok(Success::ok("App grant revoked", DONE)))
        })
        .await
}

/// The number of grants that were revoked.
#[derive(Serialize, ToSchema)]
#[schema(as = user::RevokedAppGrants)]
#[serde(rename_all = "camelCase")]
pub struct RevokedAppGrants {
    #[schema(examples(2))]
    revoked_grants: usize,
}

/// Revoke what all members granted to an app, effective immediately.
#[utoipa::path(delete, path = "/api/user/organizations/{organizationId}/app-grants",
    operation_id = "revokeAppGrantsOfClient", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("clientId" = String, Query, description = "The app."), IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Revoked.", body = Success<RevokedAppGrants>),
              BadRequest, Unauthorized, Forbidden, NotFound, Conflict, IdempotencyReused,
              Unavailable))]
pub(super) async fn revoke_of_client(
    _: OauthIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<MembersWrite>,
    mut query: Query,
    context: RequestContext,
    idempotency: Idempotency,
) -> Result<Response> {
    let client_id = query.required("clientId", parse_client_id);
    query.finish()?;
    let client_id = client_id.unwrap_or_default();
    idempotency
        .run(&app, &caller, RequestFingerprint::NOTHING, async |tx| {
            let revoked_grants = grant_revocation::revoke_of_client(
                tx,
                &caller,
                &client_id,
                &context.audit_context(),
            )
            .await?;
            let revoked = RevokedAppGrants { revoked_grants };
            Ok(ChangeResponse::ok(Success::ok("App grants revoked", revoked)))
        })
        .await
}
