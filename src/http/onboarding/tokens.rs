//! `/auth/…`: exchange a key for tokens, refresh tokens, and verify a credential.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::app::credential_lookup::CredentialQuery;
use crate::domain::keys::sessions::{self, SessionTokens};
use crate::error::{Error, Result};
use crate::http::auth::rejected_caller::RejectedCaller;
use crate::http::auth::{Authenticated, CountedRequest, count_presented, identify_key};
use crate::http::body::{Fields, FromFields, JsonBody, parse_secret};
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits;
use crate::http::render::onboarding::{
    BadRequest, Forbidden, TooLarge, Unauthorized, Unavailable, Unprocessable, UnsupportedMediaType,
};
use crate::http::shown_once::{JsonWithSecrets, ShownOnce};
use crate::model::caller::CredentialStatus;
use crate::model::ids::SessionId;
use crate::model::secret::Secret;

/// The key to exchange.
#[derive(ToSchema)]
#[schema(as = onboarding::ExchangeRequest)]
pub struct ExchangeRequest {
    /// The key's text.
    #[schema(value_type = String,
             examples("tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    api_key: Secret,
}

impl FromFields for ExchangeRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let api_key = fields.required("api_key", parse_secret);
        Some(Self { api_key: api_key? })
    }
}

/// The refresh token to exchange.
#[derive(ToSchema)]
#[schema(as = onboarding::RefreshRequest)]
pub struct RefreshRequest {
    /// The token's text, from the last exchange or refresh response.
    #[schema(value_type = String)]
    refresh_token: Secret,
}

impl FromFields for RefreshRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let refresh_token = fields.required("refresh_token", parse_secret);
        Some(Self { refresh_token: refresh_token? })
    }
}

/// The tokens of a session.
#[derive(Serialize, ToSchema)]
#[schema(as = onboarding::Tokens)]
pub struct TokenPair {
    /// The token for `Authorization: Bearer`.
    #[schema(value_type = String)]
    access_token: ShownOnce,
    /// The token to exchange for the next tokens. It can be used once.
    #[schema(value_type = String)]
    refresh_token: ShownOnce,
    #[schema(examples("bearer"))]
    token_type: &'static str,
    /// The lifetime of the access token, in seconds.
    #[schema(examples(900))]
    expires_in: i64,
}

impl From<SessionTokens> for TokenPair {
    fn from(tokens: SessionTokens) -> Self {
        Self {
            access_token: tokens.access_token.into(),
            refresh_token: tokens.refresh_token.into(),
            token_type: "bearer",
            expires_in: tokens.expires_in,
        }
    }
}

/// Exchange a key for an access token and a refresh token.
///
/// The access token is valid for 15 minutes (or `ACCESS_TOKEN_MINUTES`), the refresh token for 7
/// days. Both become invalid when their key ends.
#[utoipa::path(post, path = "/auth/token-exchange", operation_id = "exchangeKey",
    tag = "onboarding", request_body = ExchangeRequest,
    responses((status = 200, description = "Exchanged.", body = TokenPair), BadRequest,
              Unauthorized, Forbidden, TooLarge, UnsupportedMediaType, Unprocessable, Unavailable))]
pub(super) async fn exchange(
    State(app): State<App>,
    context: RequestContext,
    _: CountedRequest,
    JsonBody { value: request, .. }: JsonBody<ExchangeRequest>,
) -> Result<JsonWithSecrets<TokenPair>> {
    let identity = identify_key(&app, &context, request.api_key.expose()).await;
    let identity =
        identity.or_else(|error| rate_limits::count_invalid_credential(&app, &context, error))?;
    count_presented(&app, &context, &identity)?;
    let _ = RejectedCaller::from_identity(&identity)
        .map(|rejected| context.rejected_caller.set(rejected));
    let not_organization_key =
        || Error::forbidden("Only an organization key can be exchanged for a session");
    let caller = identity.caller.ok_or_else(not_organization_key)?;
    let tokens = sessions::exchange(&app, &caller, &context.audit_context()).await?;
    Ok(JsonWithSecrets(tokens.into()))
}

/// Exchange a refresh token for the next access token and the next refresh token.
///
/// A refresh token can be used once. If it is presented a second time, its session ends and all
/// tokens of the session become invalid.
#[utoipa::path(post, path = "/auth/refresh", operation_id = "refreshTokens", tag = "onboarding",
    request_body = RefreshRequest,
    responses((status = 200, description = "Refreshed.", body = TokenPair), BadRequest,
              Unauthorized, Forbidden, TooLarge, UnsupportedMediaType, Unprocessable, Unavailable))]
pub(super) async fn refresh(
    State(app): State<App>,
    context: RequestContext,
    _: CountedRequest,
    JsonBody { value: request, .. }: JsonBody<RefreshRequest>,
) -> Result<JsonWithSecrets<TokenPair>> {
    let (origin, audit) = (context.origin.as_deref(), context.audit_context());
    let refresh_token = sessions::find_refresh_token(&app, &request.refresh_token).await;
    let refresh_token = refresh_token
        .or_else(|error| rate_limits::count_invalid_credential(&app, &context, error))?;
    let identity =
        app.credential_lookup.find(CredentialQuery::KeySession(refresh_token.session)).await?;
    if let Some(CredentialStatus::Valid(identity)) = identity {
        count_presented(&app, &context, &identity)?;
    }
    let tokens = sessions::refresh(&app, &refresh_token, origin, &audit).await;
    let tokens =
        tokens.or_else(|error| rate_limits::count_invalid_credential(&app, &context, error))?;
    Ok(JsonWithSecrets(tokens.into()))
}

/// A valid credential and its organization.
#[derive(Serialize, ToSchema)]
#[schema(as = onboarding::Verified)]
pub struct VerifiedCredential {
    /// Always true: a credential that is not valid is rejected with 401.
    valid: bool,
    tenant: Tenant,
}

/// The organization and membership that the credential belongs to.
#[expect(clippy::struct_field_names, reason = "the contract's names")]
#[derive(Serialize, ToSchema)]
#[schema(as = onboarding::Tenant)]
pub struct Tenant {
    #[schema(examples("org_79d0fHwDRh"))]
    org_id: String,
    #[schema(examples("user_FuHtj0C14AaKHJq1"))]
    user_id: String,
    /// The session of an access token or a cookie; null for a key or a personal access token.
    #[schema(required, examples("sess_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    session_id: Option<String>,
}

/// Verify the credential of the request.
#[utoipa::path(get, path = "/auth/verify", operation_id = "verifyCredential", tag = "onboarding",
    security(("api_key" = []), ("bearer" = []), ("session" = [])),
    responses((status = 200, description = "The credential is valid.", body = VerifiedCredential),
              BadRequest, Unauthorized, Forbidden, Unavailable))]
pub(super) async fn verify(Authenticated(caller): Authenticated) -> Json<VerifiedCredential> {
    let tenant = Tenant {
        org_id: caller.organization_handle.clone(),
        user_id: caller.membership_handle.clone(),
        session_id: caller.credential.session().as_ref().map(SessionId::to_string),
    };
    Json(VerifiedCredential { valid: true, tenant })
}
