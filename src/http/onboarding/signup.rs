//! `POST /signup`: creates an organization and its first key without an account.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::organizations::signup;
use crate::error::Result;
use crate::http::body::{Fields, FromFields, JsonBody, text};
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::{RateLimitByAddress, SignInLimit};
use crate::http::edge::trusted_origin::FromTrustedOrigin;
use crate::http::onboarding::wire::{CreateKeyResponse, parse_key_name};
use crate::http::render::onboarding::{
    BadRequest, Conflict, Forbidden, TooLarge, Unavailable, Unprocessable, UnsupportedMediaType,
};
use crate::http::shown_once::JsonWithSecrets;
use crate::model::names::KeyName;
use crate::model::organization_handle::OrganizationHandle;

/// The attributes of the organization and its key, all of them optional.
#[derive(ToSchema)]
#[schema(as = onboarding::SignUpRequest)]
pub struct SignUpRequest {
    /// The organization's id. Default: a random id. Ids are unique regardless of case.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$", examples("acme"))]
    org_id: Option<OrganizationHandle>,
    /// A label for the first key.
    #[schema(value_type = Option<String>, max_length = 64, examples("acme corp"))]
    name: Option<KeyName>,
}

impl FromFields for SignUpRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let org_id = fields.optional("org_id", text(OrganizationHandle::parse));
        let name = fields.optional("name", parse_key_name);
        Some(Self { org_id, name: name.flatten() })
    }
}

/// The organization, its owner's membership and its first key.
#[derive(Serialize, ToSchema)]
#[schema(as = onboarding::SignedUp)]
pub struct SignUpResponse {
    #[schema(examples("org_79d0fHwDRh"))]
    org_id: String,
    /// The owner's membership in the organization.
    #[schema(examples("user_FuHtj0C14AaKHJq1"))]
    user_id: String,
    #[serde(flatten)]
    created_key: CreateKeyResponse,
}

/// Sign up: create an organization, its owner's membership and its first key, which has all scopes.
///
/// Only this response contains the key's text. The operator decides who may sign up
/// (`SIGNUP_MODE`). A browser request must come from a trusted origin.
#[utoipa::path(post, path = "/signup", operation_id = "signUp", tag = "onboarding",
    params(("X-Signup-Token" = Option<String>, Header,
            description = "The operator's token, required if signup is gated.")),
    request_body(content = Option<SignUpRequest>, description = "Optional."),
    responses((status = 201, description = "Signed up.", body = SignUpResponse), BadRequest,
              Forbidden,
              Conflict, TooLarge, UnsupportedMediaType, Unprocessable, Unavailable))]
pub(super) async fn sign_up(
    State(app): State<App>,
    _: FromTrustedOrigin,
    _: RateLimitByAddress<SignInLimit>,
    context: RequestContext,
    headers: HeaderMap,
    JsonBody { value: request, .. }: JsonBody<SignUpRequest>,
) -> Result<(StatusCode, JsonWithSecrets<SignUpResponse>)> {
    let token = headers.get("x-signup-token").and_then(|token| token.to_str().ok());
    signup::require_signup_allowed(&app.config.signup, token)?;
    let signed_up = signup::sign_up(
        &app,
        request.org_id,
        request.name,
        &context.audit_context_for(StatusCode::CREATED),
    )
    .await?;
    let response = SignUpResponse {
        org_id: signed_up.organization_handle.as_str().to_owned(),
        user_id: signed_up.user_handle,
        created_key: signed_up.created_key.into(),
    };
    Ok((StatusCode::CREATED, JsonWithSecrets(response)))
}
