//! `POST /api/auth/sign-up/email`

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::accounts::pending_sign_ups;
use crate::domain::accounts::{self, SignUpDetails, SignUpOptions};
use crate::domain::organizations::signup::require_signup_allowed;
use crate::error::Result;
use crate::http::auth::end_sessions_of_other_accounts;
use crate::http::auth::session_cookie;
use crate::http::body::{Fields, FromFields, JsonBody, JsonNode, take_new_password, text};
use crate::http::edge::context::{RequestContext, SignInClient};
use crate::http::edge::rate_limits::{self, RateLimitByAddress, SignInLimit};
use crate::http::edge::trusted_origin::FromTrustedOrigin;
use crate::http::render::user::{
    BadRequest, EmailTaken, Forbidden, TooLarge, Unavailable, UnsupportedMediaType,
};
use crate::http::shown_once::ShownOnce;
use crate::http::user::responses::Success;
use crate::http::user::wire::{Organization, User};
use crate::model::ValidationError;
use crate::model::email::Email;
use crate::model::mail::LinkPurpose;
use crate::model::names::PersonName;
use crate::model::password::NewPassword;

/// The maximum length of the URL of an image.
const MAX_IMAGE_URL_CHARS: usize = 2048;

/// The attributes of an account to create.
#[derive(ToSchema)]
#[schema(as = user::SignUpRequest)]
#[expect(non_snake_case, reason = "the contract's names")]
pub struct SignUpRequest {
    /// The email address. Upper and lower case are equal.
    #[schema(value_type = String, format = Email, max_length = 256, examples("you@example.com"))]
    email: Email,
    /// Must not be a common password or derived from the address.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128,
             examples("a-long-secure-passphrase"))]
    password: NewPassword,
    #[schema(value_type = String, min_length = 1, max_length = 256, examples("Your Name"))]
    name: PersonName,
    /// Where to redirect after the address is verified: a path of this API or a URL of a trusted
    /// origin.
    #[schema(max_length = 2048, examples("/welcome"))]
    callbackURL: Option<String>,
    /// Whether the cookie persists when the browser is closed. Default: true.
    #[schema(nullable = false)]
    rememberMe: Option<bool>,
    /// Accepted for compatibility with clients, and ignored: images are not stored.
    #[schema(nullable = false, max_length = 2048)]
    #[expect(dead_code, reason = "validated, but not used")]
    image: Option<String>,
}

impl FromFields for SignUpRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let trusted = &fields.context.config.http.trusted_origins;
        let email = fields.required("email", text(Email::parse));
        let password = take_new_password(fields, "password", email.as_ref());
        let name = fields.required("name", text(PersonName::parse));
        let callback_url = fields.optional("callbackURL", text(|it| trusted.parse_callback(it)));
        let remember_me = fields.optional("rememberMe", JsonNode::into_bool);
        let image = fields.optional("image", text(parse_image_url));
        Some(Self {
            email: email?,
            password: password?,
            name: name?,
            callbackURL: callback_url,
            rememberMe: remember_me,
            image,
        })
    }
}

fn parse_image_url(text: &str) -> Result<String, ValidationError> {
    if text.chars().count() > MAX_IMAGE_URL_CHARS {
        return Err(format!("must be at most {MAX_IMAGE_URL_CHARS} characters long").into());
    }
    Ok(text.to_owned())
}

/// The new account. All fields are null if the address must be verified first.
#[derive(Serialize, ToSchema)]
#[schema(as = user::SignedUp)]
pub struct SignUpResponse {
    #[schema(required)]
    user: Option<User>,
    /// The account's home organization.
    #[schema(required)]
    organization: Option<Organization>,
    /// The token for `Authorization: Bearer`, valid for 24 hours, or until the session ends.
    #[schema(value_type = Option<String>, required)]
    token: ShownOnce,
}

/// Sign up with e-mail address and password: create an account, its organization and a session.
///
/// A mail with a link to verify the address is sent to it. If addresses must be verified before the
/// first sign-in, the account cannot be used until then, the response is the same for known and
/// unknown addresses, and a later sign-up with the same address replaces one that is not verified.
#[utoipa::path(post, path = "/api/auth/sign-up/email", operation_id = "signUpEmail", tag = "user",
    params(("X-Signup-Token" = Option<String>, Header,
            description = "The operator's token, required if signup is gated.")),
    request_body = SignUpRequest,
    responses((status = 200, description = "Signed up; the session's cookie is set.",
               body = Success<SignUpResponse>),
              BadRequest, Forbidden, TooLarge, UnsupportedMediaType, EmailTaken, Unavailable))]
pub(super) async fn sign_up(
    State(app): State<App>,
    _: FromTrustedOrigin,
    _: RateLimitByAddress<SignInLimit>,
    context: RequestContext,
    SignInClient(client): SignInClient,
    headers: HeaderMap,
    JsonBody { value: request, .. }: JsonBody<SignUpRequest>,
) -> Result<Response> {
    let token = headers.get("x-signup-token").and_then(|token| token.to_str().ok());
    require_signup_allowed(&app.config.signup, token)?;
    let SignUpRequest { email, password, name, callbackURL: callback_url, rememberMe, .. } =
        request;
    let to = email.as_str().to_owned();
    let to = (LinkPurpose::VerifyEmail.as_str(), Some(to.as_str()));
    let details = SignUpDetails { email, password, name: Some(name), callback_url };
    let audit = context.audit_context();
    if app.config.accounts.require_email_verification {
        let signing_up = Box::pin(pending_sign_ups::sign_up(&app, details, &client, &audit));
        rate_limits::with_mail_limit(&app, &context, to, signing_up).await?;
        let data = SignUpResponse { user: None, organization: None, token: ShownOnce::NONE };
        return Ok(Success::ok("Follow the link in the email that we sent", data).into_response());
    }
    let is_remembered = rememberMe.unwrap_or(true);
    let options = SignUpOptions { creates_key: false, starts_session: true, is_remembered };
    let signing_up = Box::pin(accounts::sign_up(&app, details, options, &client, &audit));
    let created = rate_limits::with_mail_limit(&app, &context, to, signing_up).await?;
    end_sessions_of_other_accounts(&app, &context, created.account.id).await?;
    let cookie = created.session.as_ref().map(|it| session_cookie::set_cookie_header(&app, it));
    let data = SignUpResponse {
        user: Some(created.account.into()),
        organization: Some(created.organization.into()),
        token: created.session.map_or(ShownOnce::NONE, |session| session.token.into()),
    };
    let mut response = Success::ok("Signed up", data).into_response();
    response.headers_mut().extend(cookie.map(|value| (header::SET_COOKIE, value)));
    Ok(response)
}
