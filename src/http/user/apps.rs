//! `/api/user/organizations/{organizationId}/apps`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::oauth::apps::{self, CreatedApp};
use crate::domain::oauth::locks::no_such_app;
use crate::error::Result;
use crate::http::auth::{AppsRead, AppsWrite, OrganizationScoped};
use crate::http::body::{JsonBody, RequestFingerprint};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::path::PathId;
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, NotFound, TooLarge, Unauthorized,
    Unavailable, UnsupportedMediaType,
};
use crate::http::shown_once::ShownOnce;
use crate::http::switches::OauthIsOn;
use crate::http::user::app_attributes::{CreateApp, CreateAppRequest, UpdateApp, UpdateAppRequest};
use crate::http::user::offset_page::OffsetPage;
use crate::http::user::responses::{DONE, Done, OffsetList, Success};
use crate::http::user::wire::AppSecret;
use crate::http::wire::Timestamp;
use crate::model::ids::AppId;
use crate::model::oauth::app::OauthApp;
use crate::model::oauth::client_keys::ClientKeys;
use crate::model::public_key_set::PublicKeySet;

/// An app of an organization: an OAuth client.
#[derive(Serialize, ToSchema)]
#[schema(as = user::App)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredApp {
    #[schema(examples("app_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    /// The `client_id` that it sends: its id.
    #[schema(examples("app_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    client_id: String,
    #[schema(examples("Acme Reports"))]
    name: String,
    /// Its home page.
    #[schema(required, examples("https://reports.example.com"))]
    client_uri: Option<String>,
    #[schema(examples("https://reports.example.com/callback"))]
    redirect_uris: Vec<String>,
    /// Where it runs: `web` or `native`.
    #[schema(examples("web"))]
    application_type: &'static str,
    /// How it authenticates: `none`, `client_secret_basic`, `client_secret_post` or
    /// `private_key_jwt`.
    #[schema(examples("client_secret_basic"))]
    token_endpoint_auth_method: &'static str,
    /// Its public keys (RFC 7517 §5), if it authenticates with a private key and does not publish
    /// them.
    #[schema(required, value_type = Option<Object>)]
    jwks: Option<Value>,
    /// The URL at which it publishes its public keys.
    #[schema(required, examples("https://reports.example.com/jwks.json"))]
    jwks_uri: Option<String>,
    /// How its ID tokens are signed: `RS256` or `ES256`.
    #[schema(examples("RS256"))]
    id_token_signed_response_alg: &'static str,
    /// The scopes that it may request.
    #[schema(examples("projects:read", "offline_access"))]
    scopes: Vec<String>,
    /// Who may grant access to it: `private`, the organization's own members; `public`, everybody.
    #[schema(examples("private"))]
    visibility: &'static str,
    /// `active`, or `disabled` by the operator.
    #[schema(examples("active"))]
    status: &'static str,
    /// Its valid secrets, oldest first.
    secrets: Vec<AppSecret>,
    /// The number of its live grants.
    #[schema(examples(3))]
    grants: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<OauthApp> for RegisteredApp {
    fn from(app: OauthApp) -> Self {
        let keys = app.keys.as_ref();
        Self {
            id: app.id.to_string(),
            client_id: app.id.to_string(),
            status: app.status(),
            name: app.name,
            client_uri: app.client_uri,
            redirect_uris: app.redirect_uris.iter().map(|it| it.as_str().to_owned()).collect(),
            application_type: app.application_type.as_str(),
            token_endpoint_auth_method: app.auth_method.as_str(),
            jwks: keys.and_then(ClientKeys::registered).map(PublicKeySet::to_json),
            jwks_uri: keys.and_then(ClientKeys::published).map(|it| it.url().to_string()),
            id_token_signed_response_alg: app.id_token_algorithm.as_str(),
            scopes: app.scopes,
            visibility: app.visibility.as_str(),
            secrets: app.secrets.into_iter().map(AppSecret::from).collect(),
            grants: app.grants,
            created_at: Timestamp(app.created_at),
            updated_at: Timestamp(app.updated_at),
        }
    }
}

/// A new app, with its secret.
#[derive(Serialize, ToSchema)]
#[schema(as = user::CreatedApp)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredAppWithSecret {
    #[serde(flatten)]
    app: RegisteredApp,
    /// The text of its secret; null if it uses none. Only the response that creates the app
    /// contains it; a replay does not.
    #[serde(skip_serializing_if = "is_hidden")]
    #[schema(value_type = Option<String>,
             examples("tnt_oauth_secret_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    client_secret: Option<ShownOnce>,
}

impl From<CreatedApp> for RegisteredAppWithSecret {
    fn from(CreatedApp { secret, app }: CreatedApp) -> Self {
        Self { app: app.into(), client_secret: secret.map(ShownOnce::from) }
    }
}

/// Returns whether the field is omitted: its secret is hidden. Without a secret, it is null.
#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn is_hidden(secret: &Option<ShownOnce>) -> bool {
    secret.as_ref().is_some_and(ShownOnce::is_hidden)
}

/// Parses the id in a path.
///
/// # Errors
/// Not found if the text is not the id of an app.
pub(super) fn parse_id(text: &str) -> Result<AppId> {
    AppId::parse(text).ok_or_else(no_such_app)
}

/// List the organization's apps, newest first.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/apps",
    operation_id = "listApps", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("offset" = Option<i64>, Query, description = "How many items to skip. Default: 0."),
           ("limit" = Option<i64>, Query, description = "Page size, 1 to 100. Default: 20."),
           ("q" = Option<String>, Query, description = "Text that the name must contain.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The apps.", body = OffsetList<RegisteredApp>),
              BadRequest, Unauthorized, Forbidden, NotFound, Unavailable))]
pub(super) async fn list(
    _: OauthIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<AppsRead>,
    page: OffsetPage,
) -> Result<Json<OffsetList<RegisteredApp>>> {
    let organization = caller.organization;
    let render = ("Apps fetched", RegisteredApp::from);
    page.respond(&app, organization, render, async |db, search, window| {
        apps::list(db, organization, search, window).await
    })
    .await
}

/// Show an app of the organization.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/apps/{id}",
    operation_id = "getApp", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The app's id.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The app.", body = Success<RegisteredApp>), BadRequest,
              Unauthorized, Forbidden, NotFound, Unavailable))]
pub(super) async fn show(
    _: OauthIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<AppsRead>,
    PathId(id): PathId,
) -> Result<Json<Success<RegisteredApp>>> {
    let id = parse_id(&id)?;
    let organization = caller.organization;
    let find = async |db: &mut _| apps::find(db, organization, id).await;
    let found = app.db.tenant_transaction(organization, find).await?;
    Ok(Json(Success::ok("App fetched", found.into())))
}

/// Register an app. Only this response contains the text of its secret.
#[utoipa::path(post, path = "/api/user/organizations/{organizationId}/apps",
    operation_id = "createApp", tag = "user", request_body = CreateAppRequest,
    params(("organizationId" = String, Path, description = "The organization's id."),
           IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 201, description = "Registered.", body = Success<RegisteredAppWithSecret>),
              BadRequest, Unauthorized, Forbidden, NotFound, Conflict, TooLarge,
              UnsupportedMediaType, IdempotencyReused, Unavailable))]
pub(super) async fn create(
    _: OauthIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<AppsWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: CreateApp(spec), fingerprint }: JsonBody<CreateApp>,
) -> Result<Response> {
    let audit = context.audit_context_for(StatusCode::CREATED);
    idempotency
        .run(&app, &caller, fingerprint, async |tx| {
            let created = apps::create(&app, tx, &caller, spec, &audit).await?;
            let body = Success::created("App created", RegisteredAppWithSecret::from(created));
            Ok(ChangeResponse::created(body))
        })
        .await
}

/// Change an app.
#[utoipa::path(put, path = "/api/user/organizations/{organizationId}/apps/{id}",
    operation_id = "updateApp", tag = "user", request_body = UpdateAppRequest,
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The app's id."), IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Changed.", body = Success<RegisteredApp>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMediaType,
              IdempotencyReused, Unavailable))]
pub(super) async fn update(
    _: OauthIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<AppsWrite>,
    PathId(id): PathId,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: UpdateApp(changes), fingerprint }: JsonBody<UpdateApp>,
) -> Result<Response> {
    let id = parse_id(&id)?;
    idempotency
        .run(&app, &caller, fingerprint, async |tx| {
            let updated = apps::update(tx, &caller, id, &changes, &context.audit_context()).await?;
            let body = Success::ok("App updated", RegisteredApp::from(updated));
            Ok(ChangeResponse::ok(body))
        })
        .await
}

/// Delete an app. All grants of it end, effective immediately.
#[utoipa::path(delete, path = "/api/user/organizations/{organizationId}/apps/{id}",
    operation_id = "deleteApp", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The app's id."), IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Deleted.", body = Success<Done>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn delete(
    _: OauthIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<AppsWrite>,
    PathId(id): PathId,
    context: RequestContext,
    idempotency: Idempotency,
) -> Result<Response> {
    let id = parse_id(&id)?;
    idempotency
        .run(&app, &caller, RequestFingerprint::NOTHING, async |tx| {
            apps::delete(tx, &caller, id, &context.audit_context()).await?;
            Ok(ChangeResponse::ok(Success::ok("App deleted", DONE)))
        })
        .await
}
