//! `/auth/signup`, `/auth/login`, `/auth/logout`

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::accounts::passwords;
use crate::domain::accounts::{SignUpDetails, SignUpOptions, sign_up as make_account};
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
use crate::model::account::PersonName;
use crate::model::email::Email;
use crate::model::mail::LinkPurpose;
use crate::model::password::NewPassword;
use crate::model::secret::Secret;

/// Somebody who wants an account.
#[derive(ToSchema)]
#[schema(as = account::SignUpRequest)]
pub struct SignUpRequest {
    /// The address, in whatever case.
    #[schema(value_type = String, format = Email, max_length = 256, examples("dev@example.com"))]
    email: Email,
    /// None of the commonest passwords, and not made of the address.
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

/// A new account and what comes with it.
#[derive(Serialize, ToSchema)]
#[schema(as = account::SignedUp)]
pub struct SignUpResponse {
    /// For `Authorization: Bearer`; a day, or until its session ends.
    token: String,
    /// A key that may do everything in the account's organization. It is shown here only.
    #[schema(examples("tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    api_key: String,
    account: Account,
}

/// Sign up with email and password: an account, its organization, a key and a session.
///
/// A mail is sent to the address, with a link to prove that it is its owner's. Where addresses have
/// to be proven first, this is closed: use `/api/auth/sign-up/email`.
#[utoipa::path(post, path = "/auth/signup", operation_id = "signUpAccount", tag = "account",
    params(("X-Signup-Token" = Option<String>, Header,
            description = "Where signup is gated: the operator's token.")),
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
) -> Result<(StatusCode, Json<DataEnvelope<SignUpResponse>>)> {
    let token = headers.get("x-signup-token").and_then(|token| token.to_str().ok());
    require_signup_allowed(&app.config.signup, token)?;
    if app.config.accounts.require_email_verification {
        return Err(Error::forbidden(
            "E-mail addresses have to be verified first; sign up at /api/auth/sign-up/email",
        ));
    }
    let SignUpRequest { email, password, name } = request;
    let to = email.as_str().to_owned();
    let person = SignUpDetails { email, password, name, callback_url: None };
    let with = SignUpOptions { creates_key: true, starts_session: true, is_remembered: true };
    let audit = context.audit_context_for(StatusCode::CREATED);
    let making = Box::pin(make_account(&app, person, with, &client, &audit));
    let to = (LinkPurpose::VerifyEmail.as_str(), Some(to.as_str()));
    let made = rate_limits::with_mail_limit(&app, &context, to, making).await?;
    let (Some(key), Some(session)) = (made.key, made.session) else {
        return Err(Error::internal("a signup made no key or no session"));
    };
    let data = SignUpResponse {
        token: session.token.expose().to_owned(),
        api_key: key.secret.expose().to_owned(),
        account: Account::from(&made.account),
    };
    Ok((StatusCode::CREATED, Json(DataEnvelope { data })))
}

/// Somebody who has an account.
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
    /// For `Authorization: Bearer`; a day, or until its session ends.
    token: String,
    account: Account,
}

/// Sign in with email and password.
///
/// An unknown address and a wrong password get the same answer, at the same cost.
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
) -> Result<Json<DataEnvelope<LogInResponse>>> {
    let LogInRequest { email, password } = request;
    let shown = (&email, password);
    let audit = context.audit_context();
    let signing_in = passwords::sign_in(&app, shown, None, (&client, true), &audit);
    let (account, session) =
        rate_limits::with_sign_in_limit(&app, &context, &email, signing_in).await?;
    let token = session.token.expose().to_owned();
    Ok(Json(DataEnvelope { data: LogInResponse { token, account: Account::from(&account) } }))
}

/// That a session has ended.
#[derive(Serialize, ToSchema)]
#[schema(as = account::LoggedOut)]
pub struct LogOutResponse {
    #[schema(examples("Signed out"))]
    message: &'static str,
}

/// Sign out: the session and its tokens stop at once, and the cookie is taken away.
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
