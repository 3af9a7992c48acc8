//! `/v1/admin/oauth/apps`: the operator publishes the apps of organizations, and disables these and
//! the clients that no organization registered.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::oauth::operator_clients;
use crate::error::Result;
use crate::http::auth::{MasterKeyGuard, OauthApps};
use crate::http::body::JsonBody;
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::ChangeResponse;
use crate::http::operator::idempotency::{RequireIdempotencyKey, RequiredIdempotencyHeader};
use crate::http::operator::wire::{EmptyBody, ResponseMeta};
use crate::http::path::PathId;
use crate::http::query::{Query, parse_integer};
use crate::http::render::operator::{
    BadRequest, Conflict, NotFound, RateLimited, TooLarge, Unauthorized, Unavailable,
    Unprocessable, UnsupportedMediaType,
};
use crate::http::switches::OauthIsOn;
use crate::http::wire::Timestamp;
use crate::model::ValidationError;
use crate::model::audit::AuditContext;
use crate::model::external_actor::ExternalActor;
use crate::model::ids::AppId;
use crate::model::master_scope::MasterScope;
use crate::model::oauth::ClientKind;
use crate::model::oauth::app::OauthApp;
use crate::model::organization_handle::OrganizationHandle;

const CLIENT_ID: &str = "The app's client id, percent-encoded if it is a URL.";
/// The default and the maximum number of apps in a response.
const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 100;

/// An app.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::App)]
pub struct OperatedApp {
    #[schema(examples("app_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    client_id: String,
    /// `registered` by an organization, known by its metadata `document`, or `dynamic`: it
    /// registered itself.
    #[schema(examples("registered"))]
    kind: &'static str,
    /// The organization that registered it.
    #[schema(required, examples("org_acme_2026_example"))]
    org_id: Option<String>,
    #[schema(examples("Acme Reports"))]
    name: String,
    #[schema(required, examples("https://reports.example.com"))]
    client_uri: Option<String>,
    #[schema(examples("https://reports.example.com/callback"))]
    redirect_uris: Vec<String>,
    #[schema(examples("web"))]
    application_type: &'static str,
    #[schema(examples("client_secret_basic"))]
    token_endpoint_auth_method: &'static str,
    #[schema(examples("projects:read"))]
    scopes: Vec<String>,
    /// `private` or `public`.
    #[schema(examples("public"))]
    visibility: &'static str,
    /// `active` or `disabled`.
    #[schema(examples("active"))]
    status: &'static str,
    #[schema(required)]
    published_at: Option<Timestamp>,
    #[schema(required)]
    disabled_at: Option<Timestamp>,
    /// The number of its live grants.
    #[schema(examples(3))]
    grants: i64,
    created_at: Timestamp,
}

impl From<OauthApp> for OperatedApp {
    fn from(app: OauthApp) -> Self {
        Self {
            status: app.status(),
            client_id: app.client_id,
            kind: app.kind.as_str(),
            org_id: (app.kind == ClientKind::Registered).then_some(app.organization_handle),
            name: app.name,
            client_uri: app.client_uri,
            redirect_uris: app.redirect_uris.iter().map(|it| it.as_str().to_owned()).collect(),
            application_type: app.application_type.as_str(),
            token_endpoint_auth_method: app.auth_method.as_str(),
            scopes: app.scopes,
            visibility: app.visibility.as_str(),
            published_at: app.published_at.map(Timestamp),
            disabled_at: app.disabled_at.map(Timestamp),
            grants: app.grants,
            created_at: Timestamp(app.created_at),
        }
    }
}

/// Apps, newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::Apps)]
pub struct OperatedApps {
    apps: Vec<OperatedApp>,
    /// The `cursor` of the next page; null on the last one.
    #[schema(required, examples("app_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    next_cursor: Option<String>,
    #[serde(flatten)]
    stamp: ResponseMeta,
}

/// List the apps of all organizations, and those that no organization registered, newest first.
#[utoipa::path(get, path = "/v1/admin/oauth/apps", operation_id = "listOauthApps",
    tag = "operator",
    params(("org_id" = Option<String>, Query, description = "Only apps of this organization."),
           ("kind" = Option<String>, Query, example = "document",
            description = "Only apps of this kind: `registered`, `document` or `dynamic`."),
           ("limit" = Option<i64>, Query, description = "1 to 100. Default: 20."),
           ("cursor" = Option<String>, Query,
            description = "The `next_cursor` of the page before.")),
    security(("master_key" = [])),
    responses((status = 200, description = "The apps.", body = OperatedApps), BadRequest,
              Unauthorized, NotFound, Unprocessable, RateLimited, Unavailable))]
pub(super) async fn list(
    _: OauthIsOn,
    State(app): State<App>,
    _operator: MasterKeyGuard<OauthApps>,
    context: RequestContext,
    mut query: Query,
) -> Result<Json<OperatedApps>> {
    let organization = query.optional("org_id", OrganizationHandle::parse);
    let kind = query.optional("kind", parse_kind);
    let limit = query.optional("limit", |text| parse_integer(text, 1, MAX_LIMIT));
    let after = query.optional("cursor", |text| {
        AppId::parse(text).ok_or_else(|| ValidationError::from("must be a cursor of this list"))
    });
    query.finish()?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    // One more than the limit shows whether there is a next page.
    let list = async |db: &mut PgConnection| {
        let organization = organization.as_ref().map(OrganizationHandle::as_str);
        operator_clients::list(db, (organization, kind), after, limit + 1).await
    };
    let mut apps = app.db.run(list).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = apps.len() > limit;
    apps.truncate(limit);
    let next_cursor = apps.last().filter(|_| has_more).map(|app| app.id.to_string());
    let apps = apps.into_iter().map(OperatedApp::from).collect();
    Ok(Json(OperatedApps { apps, next_cursor, stamp: ResponseMeta::from(&context) }))
}

fn parse_kind(text: &str) -> Result<ClientKind, ValidationError> {
    ClientKind::parse(text).ok_or_else(|| "must be registered, document or dynamic".into())
}

/// A response with one app.
#[derive(Serialize, ToSchema)]
#[schema(as = operator::AppAnswer)]
pub struct OperatedAppResponse {
    #[serde(flatten)]
    app: OperatedApp,
    /// The number of grants that this request ended.
    #[schema(examples(0))]
    revoked_grants: i64,
    #[serde(flatten)]
    stamp: ResponseMeta,
}

/// An app after a change, and the number of grants that the change ended.
type ChangedApp = (OauthApp, i64);

/// Runs a change of the app in the path, once for each `Idempotency-Key`.
async fn run(
    app: &App,
    (id, RequireIdempotencyKey(idempotency)): (String, RequireIdempotencyKey),
    context: RequestContext,
    body: JsonBody<EmptyBody>,
    change: impl AsyncFnOnce(
        &mut PgConnection,
        &str,
        ExternalActor,
        &AuditContext,
    ) -> Result<ChangedApp>,
) -> Result<Response> {
    let scope = MasterScope::OauthApps;
    let audit = context.audit_context();
    let work = async |tx: &mut PgConnection| {
        let (changed, revoked_grants) =
            change(tx, &id, ExternalActor::Master(scope), &audit).await?;
        let (app, stamp) = (changed.into(), ResponseMeta::from(&context));
        Ok(ChangeResponse::ok(OperatedAppResponse { app, revoked_grants, stamp }))
    };
    idempotency.run(app, scope, body.fingerprint, work).await
}

/// Publish an app: members of all organizations may grant access to it.
#[utoipa::path(post, path = "/v1/admin/oauth/apps/{clientId}/publish",
    operation_id = "publishOauthApp", tag = "operator", request_body = EmptyBody,
    params(("clientId" = String, Path, description = CLIENT_ID),
           RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "Published.", body = OperatedAppResponse), BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn publish(
    _: OauthIsOn,
    State(app): State<App>,
    _operator: MasterKeyGuard<OauthApps>,
    context: RequestContext,
    idempotency: RequireIdempotencyKey,
    PathId(id): PathId,
    body: JsonBody<EmptyBody>,
) -> Result<Response> {
    run(&app, (id, idempotency), context, body, async |tx, id, actor, audit| {
        Ok((operator_clients::publish(tx, id, actor, audit).await?, 0))
    })
    .await
}

/// Disable an app. It is rejected from the next request on, and all its grants end: they do not
/// come back when it is enabled.
#[utoipa::path(post, path = "/v1/admin/oauth/apps/{clientId}/disable",
    operation_id = "disableOauthApp", tag = "operator", request_body = EmptyBody,
    params(("clientId" = String, Path, description = CLIENT_ID),
           RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "Disabled.", body = OperatedAppResponse), BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn disable(
    _: OauthIsOn,
    State(app): State<App>,
    _operator: MasterKeyGuard<OauthApps>,
    context: RequestContext,
    idempotency: RequireIdempotencyKey,
    PathId(id): PathId,
    body: JsonBody<EmptyBody>,
) -> Result<Response> {
    run(&app, (id, idempotency), context, body, async |tx, id, actor, audit| {
        operator_clients::disable(tx, id, actor, audit).await
    })
    .await
}

/// Enable an app that is disabled.
#[utoipa::path(post, path = "/v1/admin/oauth/apps/{clientId}/enable",
    operation_id = "enableOauthApp", tag = "operator", request_body = EmptyBody,
    params(("clientId" = String, Path, description = CLIENT_ID),
           RequiredIdempotencyHeader),
    security(("master_key" = [])),
    responses((status = 200, description = "Enabled.", body = OperatedAppResponse), BadRequest,
              Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType, Unprocessable,
              RateLimited, Unavailable))]
pub(super) async fn enable(
    _: OauthIsOn,
    State(app): State<App>,
    _operator: MasterKeyGuard<OauthApps>,
    context: RequestContext,
    idempotency: RequireIdempotencyKey,
    PathId(id): PathId,
    body: JsonBody<EmptyBody>,
) -> Result<Response> {
    run(&app, (id, idempotency), context, body, async |tx, id, actor, audit| {
        Ok((operator_clients::enable(tx, id, actor, audit).await?, 0))
    })
    .await
}
