//! `/auth/signup`, `/auth/login`, `/auth/logout`

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::accounts::passwords;
use crate::domain::accounts::{SignUpDetails, SignUpOptions, sign_up as create_account};
use crate::domain::organizations::signup::require_signup_allowed;
use crate::error::{Error, Result};
use crate::http::account::wire::{Account, DataEnvelope};
use crate::http::auth::SignOutSessions;
use crate::http::auth::session_cookie;
use crate::http::body::{
    Fields, FromFields, JsonBody, parse_presented_password, take_new_password, text,
};
use crate::http::edge::context::{RequestContext, SignInClient};
use crate::http::edge::idempotency::Idempotency;
use crate::http::edge::rate_limits::{self, RateLimitByAddress, SignInLimit};
use crate::http::edge::trusted_origin::FromTrustedOrigin;
use crate::http::render::account::{
    BadRequest, Conflict, Forbidden, TooLarge, Unauthorized, Unavailable, UnsupportedMediaType,
};
use crate::http::shown_once::{JsonWithSecrets, ShownOnce};
use crate::model::email::Email;
use crate::model::mail::LinkPurpose;
use crate::model::names::PersonName;
use crate::model::password::NewPassword;
use crate::model::secret::Secret;

/// The attributes of an account to create.
#[derive(ToSchema)]
#[schema(as = account::SignUpRequest)]
pub struct SignUpRequest {
    /// The e-mail address, in any case.
    #[schema(value_type = String, format = Email, max_length = 256, examples("dev@example.com"))]
    email: Email,
    /// Must not be a common password or derived from the address.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128,
             examples("a-long-secure-passphrase"))]
    password: NewPassword,
    /// A display name.
    #[schema(value_type = Option<String>, max_length = 256, examples("Jane Developer"))]
    name: Option<PersonName>,
}

impl FromFields for SignUpRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let email = fields.required("email", text(Email::parse));
        let password = take_new_password(fields, "password", email.as_ref());
        let name = fields.optional("name", text(PersonName::parse_optional));
        Some(Self { email: email?, password: password?, name: name.flatten() })
    }
}

/// A new account with its first key and session.
#[derive(Serialize, ToSchema)]
#[schema(as = account::SignedUp)]
pub struct SignUpResponse {
    /// The token for `Authorization: Bearer`, valid for a day or until its session ends.
    #[schema(value_type = String)]
    token: ShownOnce,
    /// A key with all scopes in the account's organization. Only this response contains its text.
    #[schema(value_type = String,
             examples("tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    api_key: ShownOnce,
    account: Account,
}

/// Sign up: create an account, its organization, a key and a session.
///
/// A mail with a link to verify the address is sent to it. If addresses must be verified before the
/// first sign-in, this endpoint is closed: use `/api/auth/sign-up/email`.
#[utoipa::path(post, path = "/auth/signup", operation_id = "signUpAccount", tag = "account",
    params(("X-Signup-Token" = Option<String>, Header,
            description = "The operator's token, required if signup is gated.")),
    request_body = SignUpRequest,
    responses((status = 201, description = "Signed up.", body = DataEnvelope<SignUpResponse>),
              BadRequest,
              Forbidden, Conflict, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn sign_up(
    State(app): State<App>,
    _: FromTrustedOrigin,
    _: RateLimitByAddress<SignInLimit>,
    context: RequestContext,
    SignInClient(client): SignInClient,
    headers: HeaderMap,
    JsonBody { value: request, .. }: JsonBody<SignUpRequest>,
) -> Result<(StatusCode, JsonWithSecrets<DataEnvelope<SignUpResponse>>)> {
    let token = headers.get("x-signup-token").and_then(|token| token.to_str().ok());
    require_signup_allowed(&app.config.signup, token)?;
    if app.config.accounts.require_email_verification {
        return Err(Error::forbidden(
            "E-mail addresses must be verified first; sign up at /api/auth/sign-up/email",
        ));
    }
    let SignUpRequest { email, password, name } = request;
    let to = email.as_str().to_owned();
    let details = SignUpDetails { email, password, name, callback_url: None };
    let options = SignUpOptions { creates_key: true, starts_session: true, is_remembered: true };
    let audit = context.audit_context_for(StatusCode::CREATED);
    let signing_up = Box::pin(create_account(&app, details, options, &client, &audit));
    let to = (LinkPurpose::VerifyEmail.as_str(), Some(to.as_str()));
    let created = rate_limits::with_mail_limit(&app, &context, to, signing_up).await?;
    let (Some(key), Some(session)) = (created.key, created.session) else {
        return Err(Error::internal("a signup created no key or no session"));
    };
    let data = SignUpResponse {
        token: session.token.into(),
        api_key: key.secret.into(),
        account: Account::from(&created.account),
    };
    Ok((StatusCode::CREATED, JsonWithSecrets(DataEnvelope { data })))
}

/// The credentials to sign in with.
#[derive(ToSchema)]
#[schema(as = account::LogInRequest)]
pub struct LogInRequest {
    #[schema(value_type = String, format = Email, examples("dev@example.com"))]
    email: Email,
    #[schema(value_type = String, format = Password, examples("a-long-secure-passphrase"))]
    password: Secret,
}

impl FromFields for LogInRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let email = fields.required("email", text(Email::parse));
        let password = fields.required("password", parse_presented_password);
        Some(Self { email: email?, password: password? })
    }
}

/// A new session.
#[derive(Serialize, ToSchema)]
#[schema(as = account::LoggedIn)]
pub struct LogInResponse {
    /// The token for `Authorization: Bearer`, valid for a day or until its session ends.
    #[schema(value_type = String)]
    token: ShownOnce,
    account: Account,
}

/// Sign in with e-mail address and password.
///
/// The response to an unknown address and to a wrong password is the same, and takes the same time.
#[utoipa::path(post, path = "/auth/login", operation_id = "logIn", tag = "account",
    request_body = LogInRequest,
    responses((status = 200, description = "Signed in.", body = DataEnvelope<LogInResponse>),
              BadRequest,
              Unauthorized, Forbidden, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn log_in(
    State(app): State<App>,
    _: FromTrustedOrigin,
    _: RateLimitByAddress<SignInLimit>,
    context: RequestContext,
    SignInClient(client): SignInClient,
    JsonBody { value: request, .. }: JsonBody<LogInRequest>,
) -> Result<JsonWithSecrets<DataEnvelope<LogInResponse>>> {
    let LogInRequest { email, password } = request;
    let presented = (&email, password);
    let audit = context.audit_context();
    let signing_in = passwords::sign_in(&app, presented, None, (&client, true), &audit);
    let (account, session) =
        rate_limits::with_sign_in_limit(&app, &context, &email, signing_in).await?;
    let data = LogInResponse { token: session.token.into(), account: Account::from(&account) };
    Ok(JsonWithSecrets(DataEnvelope { data }))
}

/// Confirms that the session has ended.
#[derive(Serialize, ToSchema)]
#[schema(as = account::LoggedOut)]
pub struct LogOutResponse {
    #[schema(examples("Signed out"))]
    message: &'static str,
}

/// Sign out: the session and its tokens become invalid immediately, and the cookie is removed.
#[utoipa::path(post, path = "/auth/logout", operation_id = "logOut", tag = "account",
    security(("bearer" = []), ("session" = [])),
    responses((status = 200, description = "Signed out.", body = DataEnvelope<LogOutResponse>),
              BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn log_out(
    State(app): State<App>,
    signing_out: SignOutSessions,
    context: RequestContext,
    _: Idempotency,
) -> Result<([(HeaderName, HeaderValue); 1], Json<DataEnvelope<LogOutResponse>>)> {
    signing_out.end_sessions(&app, &context).await?;
    let data = LogOutResponse { message: "Signed out" };
    Ok((
        [(header::SET_COOKIE, session_cookie::clear_cookie_header(&app))],
        Json(DataEnvelope { data }),
    ))
}
