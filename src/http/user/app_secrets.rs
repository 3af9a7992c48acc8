//! `/api/user/organizations/{organizationId}/apps/{id}/secrets`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::TimeDelta;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::oauth::secrets::{self, CreatedSecret, no_such_secret};
use crate::error::Result;
use crate::http::auth::{AppsWrite, OrganizationScoped};
use crate::http::body::{Fields, FromFields, JsonBody, RequestFingerprint};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::path::{PathId, PathIdPair};
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, NotFound, TooLarge, Unauthorized,
    Unavailable, UnsupportedMediaType,
};
use crate::http::shown_once::ShownOnce;
use crate::http::switches::OauthIsOn;
use crate::http::user::apps::parse_id;
use crate::http::user::responses::{DONE, Done, Success};
use crate::http::user::wire::AppSecret;
use crate::model::ids::{AppId, AppSecretId};

/// The shortest and the longest time for which a new secret can be valid, in seconds.
const LIFETIME_SECONDS: std::ops::RangeInclusive<i32> = 60..=315_360_000;

/// A new secret, with its text.
#[derive(Serialize, ToSchema)]
#[schema(as = user::CreatedAppSecret)]
#[serde(rename_all = "camelCase")]
pub struct AppSecretWithText {
    #[serde(flatten)]
    secret: AppSecret,
    /// The text. Only the response that creates the secret contains it; a replay does not.
    #[serde(skip_serializing_if = "ShownOnce::is_hidden")]
    #[schema(value_type = Option<String>,
             examples("tnt_oauth_secret_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    client_secret: ShownOnce,
}

impl From<CreatedSecret> for AppSecretWithText {
    fn from(CreatedSecret { text, secret }: CreatedSecret) -> Self {
        Self { secret: secret.into(), client_secret: text.into() }
    }
}

/// The attributes of a secret to create.
#[derive(ToSchema)]
#[schema(as = user::CreateAppSecretRequest)]
#[expect(non_snake_case, reason = "the contract's name")]
pub struct CreateAppSecretRequest {
    /// For how many seconds it is valid, at most 10 years. Default: until it is deleted.
    #[schema(value_type = Option<i32>, minimum = 60, maximum = 315_360_000, examples(7_776_000))]
    expiresIn: Option<TimeDelta>,
}

impl FromFields for CreateAppSecretRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let seconds = fields.optional("expiresIn", |node| node.into_integer(LIFETIME_SECONDS));
        Some(Self { expiresIn: seconds.map(|seconds| TimeDelta::seconds(seconds.into())) })
    }
}

/// Create another secret of an app, which has at most two. Only this response contains its text.
#[utoipa::path(post, path = "/api/user/organizations/{organizationId}/apps/{id}/secrets",
    operation_id = "createAppSecret", tag = "user", request_body = CreateAppSecretRequest,
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The app's id."), IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 201, description = "Created.", body = Success<AppSecretWithText>),
              BadRequest, Unauthorized, Forbidden, NotFound, Conflict, TooLarge,
              UnsupportedMediaType, IdempotencyReused, Unavailable))]
pub(super) async fn create(
    _: OauthIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<AppsWrite>,
    PathId(id): PathId,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: request, fingerprint }: JsonBody<CreateAppSecretRequest>,
) -> Result<Response> {
    let id = parse_id(&id)?;
    let audit = context.audit_context_for(StatusCode::CREATED);
    idempotency
        .run(&app, &caller, fingerprint, async |tx| {
            let spec = (id, request.expiresIn);
            let created = secrets::create(&app, tx, &caller, spec, &audit).await?;
            let body = Success::created("App secret created", AppSecretWithText::from(created));
            Ok(ChangeResponse::created(body))
        })
        .await
}

/// Delete a secret of an app, effective immediately.
#[utoipa::path(delete,
    path = "/api/user/organizations/{organizationId}/apps/{id}/secrets/{secretId}",
    operation_id = "deleteAppSecret", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The app's id."),
           ("secretId" = String, Path, description = "The secret's id."), IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Deleted.", body = Success<Done>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn delete(
    _: OauthIsOn,
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<AppsWrite>,
    PathIdPair(id, secret): PathIdPair,
    context: RequestContext,
    idempotency: Idempotency,
) -> Result<Response> {
    let id: AppId = parse_id(&id)?;
    let secret = AppSecretId::parse(&secret).ok_or_else(no_such_secret)?;
    idempotency
        .run(&app, &caller, RequestFingerprint::NOTHING, async |tx| {
            secrets::delete(tx, &caller, (id, secret), &context.audit_context()).await?;
            Ok(ChangeResponse::ok(Success::ok("App secret deleted", DONE)))
        })
        .await
}
