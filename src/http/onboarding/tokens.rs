//! `/auth/…`: a key exchanged for tokens, tokens for the next ones, and a check of either.

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
use crate::model::caller::CredentialStatus;
use crate::model::ids::SessionId;
use crate::model::secret::Secret;

/// A key to exchange.
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

/// A refresh token to use.
#[derive(ToSchema)]
#[schema(as = onboarding::RefreshRequest)]
pub struct RefreshRequest {
    /// The token's text, from the last exchange or refresh.
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
    /// For `Authorization: Bearer`.
    access_token: String,
    /// For the next tokens; good once.
    refresh_token: String,
    #[schema(examples("bearer"))]
    token_type: &'static str,
    /// Seconds that the access token lives.
    #[schema(examples(900))]
    expires_in: i64,
}

impl From<SessionTokens> for TokenPair {
    fn from(tokens: SessionTokens) -> Self {
        Self {
            access_token: tokens.access_token.expose().to_owned(),
            refresh_token: tokens.refresh_token.expose().to_owned(),
            token_type: "bearer",
            expires_in: tokens.expires_in,
        }
    }
}

/// Exchange a key for an access token (15 minutes, or `ACCESS_TOKEN_MINUTES`) and a refresh token
/// (7 days).
///
/// Both end with their key.
#[utoipa::path(post, path = "/auth/token-exchange", operation_id = "exchangeKey",
    tag = "onboarding", request_body = ExchangeRequest,
    responses((status = 200, description = "Exchanged.", body = TokenPair), BadRequest,
              Unauthorized, Forbidden, TooLarge, UnsupportedMediaType, Unprocessable, Unavailable))]
pub(super) async fn exchange(
    State(app): State<App>,
    context: RequestContext,
    _: CountedRequest,
    JsonBody { value: request, .. }: JsonBody<ExchangeRequest>,
) -> Result<Json<TokenPair>> {
    let holder = identify_key(&app, &context, request.api_key.expose()).await;
    let holder =
        holder.or_else(|refused| rate_limits::count_invalid_credential(&app, &context, refused))?;
    count_presented(&app, &context, &holder)?;
    let _ =
        RejectedCaller::from_identity(&holder).map(|denied| context.rejected_caller.set(denied));
    let person = || Error::forbidden("Only an organization's own key can be exchanged");
    let holder = holder.caller.ok_or_else(person)?;
    let tokens = sessions::exchange(&app, &holder, &context.audit_context()).await?;
    Ok(Json(tokens.into()))
}

/// Use a refresh token: the next access token, and the next refresh token.
///
/// A refresh token is good once. One that comes a second time ends its session, for whoever
/// holds its tokens.
#[utoipa::path(post, path = "/auth/refresh", operation_id = "refreshTokens", tag = "onboarding",
    request_body = RefreshRequest,
    responses((status = 200, description = "Refreshed.", body = TokenPair), BadRequest,
              Unauthorized, Forbidden, TooLarge, UnsupportedMediaType, Unprocessable, Unavailable))]
pub(super) async fn refresh(
    State(app): State<App>,
    context: RequestContext,
    _: CountedRequest,
    JsonBody { value: request, .. }: JsonBody<RefreshRequest>,
) -> Result<Json<TokenPair>> {
    let (origin, audit) = (context.origin.as_deref(), context.audit_context());
    let known = sessions::find_refresh_token(&app, &request.refresh_token).await;
    let known =
        known.or_else(|refused| rate_limits::count_invalid_credential(&app, &context, refused))?;
    let holder = app.credential_lookup.find(CredentialQuery::KeySession(known.session)).await?;
    if let Some(CredentialStatus::Valid(holder)) = holder {
        count_presented(&app, &context, &holder)?;
    }
    let tokens = sessions::refresh(&app, &known, origin, &audit).await;
    let tokens =
        tokens.or_else(|refused| rate_limits::count_invalid_credential(&app, &context, refused))?;
    Ok(Json(tokens.into()))
}

/// That a credential is good, and whose it is.
#[derive(Serialize, ToSchema)]
#[schema(as = onboarding::Verified)]
pub struct VerifiedCredential {
    /// Always true: a credential that is not good is a 401.
    valid: bool,
    tenant: Tenant,
}

/// Whose a credential is.
#[expect(clippy::struct_field_names, reason = "the contract's names")]
#[derive(Serialize, ToSchema)]
#[schema(as = onboarding::Tenant)]
pub struct Tenant {
    #[schema(examples("org_79d0fHwDRh"))]
    org_id: String,
    #[schema(examples("user_FuHtj0C14AaKHJq1"))]
    user_id: String,
    /// The session of an access token; null for a key.
    #[schema(required, examples("sess_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    session_id: Option<String>,
}

/// Check a credential.
#[utoipa::path(get, path = "/auth/verify", operation_id = "verifyCredential", tag = "onboarding",
    security(("api_key" = []), ("bearer" = []), ("session" = [])),
    responses((status = 200, description = "It is good.", body = VerifiedCredential), BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn verify(Authenticated(caller): Authenticated) -> Json<VerifiedCredential> {
    let tenant = Tenant {
        org_id: caller.organization_handle.clone(),
        user_id: caller.membership_handle.clone(),
        session_id: caller.credential.session().as_ref().map(SessionId::to_string),
    };
    Json(VerifiedCredential { valid: true, tenant })
}
