//! `POST /api/auth/sign-up/email`

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::accounts::{self, NewPerson, With};
use crate::domain::pending_sign_ups;
use crate::domain::signup::admit;
use crate::error::Result;
use crate::http::body::{Fields, FromFields, JsonBody, Node, new_password, text};
use crate::http::caller::end_sessions_of_others;
use crate::http::context::{RequestContext, SigningIn};
use crate::http::cookie;
use crate::http::limits::{self, Limited, SignIn};
use crate::http::trusted_page::FromTrustedPage;
use crate::http::user::dialect::{
    BadRequest, Forbidden, Success, Taken, TooLarge, Unavailable, UnsupportedMediaType,
};
use crate::http::user::wire::{Organization, User};
use crate::model::Invalid;
use crate::model::account::PersonName;
use crate::model::email::Email;
use crate::model::mail::Purpose;
use crate::model::password::NewPassword;

/// The longest URL of an image.
const IMAGE: usize = 2048;

/// Somebody who wants an account.
#[derive(ToSchema)]
#[schema(as = user::SignUpRequest)]
#[expect(non_snake_case, reason = "the contract's names")]
pub struct SignUpRequest {
    /// The address, in whatever case.
    #[schema(value_type = String, format = Email, max_length = 256, examples("you@example.com"))]
    email: Email,
    /// None of the commonest passwords, and not made of the address.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128,
             examples("a-long-secure-passphrase"))]
    password: NewPassword,
    #[schema(value_type = String, min_length = 1, max_length = 256, examples("Your Name"))]
    name: PersonName,
    /// Where to go on to after proving the address: here, or one of the dashboards.
    #[schema(max_length = 2048, examples("/welcome"))]
    callbackURL: Option<String>,
    /// Whether the browser is to keep the cookie when it closes; it is, where left out.
    #[schema(nullable = false)]
    rememberMe: Option<bool>,
    /// Taken from clients that send one; no images are kept.
    #[schema(nullable = false, max_length = 2048)]
    #[expect(dead_code, reason = "read, and not used")]
    image: Option<String>,
}

impl FromFields for SignUpRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let trusted = &fields.rules.config.http.trusted_origins;
        let email = fields.required("email", text(Email::parse));
        let password = new_password(fields, "password", email.as_ref());
        let name = fields.required("name", text(PersonName::parse));
        let callback_url = fields.optional("callbackURL", text(|it| trusted.parse_callback(it)));
        let remember_me = fields.optional("rememberMe", Node::into_bool);
        let image = fields.optional("image", text(image));
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

fn image(text: &str) -> Result<String, Invalid> {
    if text.chars().count() > IMAGE {
        return Err(format!("must be at most {IMAGE} characters long").into());
    }
    Ok(text.to_owned())
}

/// A new account; all null where its address has to be proven first.
#[derive(Serialize, ToSchema)]
#[schema(as = user::SignedUp)]
pub struct SignedUp {
    #[schema(required)]
    user: Option<User>,
    /// The account's home organization.
    #[schema(required)]
    organization: Option<Organization>,
    /// For `Authorization: Bearer`; a day, or until the session ends.
    #[schema(required)]
    token: Option<String>,
}

/// Sign up with email and password: an account, its organization and a session.
///
/// A mail is sent to the address, with a link to prove that it is its owner's. Where addresses have
/// to be proven first, the answer is the same for known and unknown addresses, and the mail says
/// the rest; a newer sign-up of an address takes the place of one whose address is not proven yet.
#[utoipa::path(post, path = "/api/auth/sign-up/email", operation_id = "signUpEmail", tag = "user",
    params(("X-Signup-Token" = Option<String>, Header,
            description = "Where signup is gated: the operator's token.")),
    request_body = SignUpRequest,
    responses((status = 200, description = "Signed up; the session's cookie is set.",
               body = Success<SignedUp>),
              BadRequest, Forbidden, TooLarge, UnsupportedMediaType, Taken, Unavailable))]
pub(super) async fn sign_up(
    State(app): State<App>,
    _: FromTrustedPage,
    _: Limited<SignIn>,
    context: RequestContext,
    SigningIn(client): SigningIn,
    headers: HeaderMap,
    JsonBody { value: request, .. }: JsonBody<SignUpRequest>,
) -> Result<Response> {
    let token = headers.get("x-signup-token").and_then(|token| token.to_str().ok());
    admit(&app.config.signup, token)?;
    let SignUpRequest { email, password, name, callbackURL: callback_url, rememberMe, .. } =
        request;
    let to = email.as_str().to_owned();
    let to = (Purpose::VerifyEmail.as_str(), Some(to.as_str()));
    let person = NewPerson { email, password, name: Some(name), callback_url };
    let trail = context.trail();
    if app.config.accounts.require_email_verification {
        let making = Box::pin(pending_sign_ups::sign_up(&app, person, &client, &trail));
        limits::mailing(&app, &context, to, making).await?;
        let data = SignedUp { user: None, organization: None, token: None };
        return Ok(Success::ok("Follow the link in the mail we sent", data).into_response());
    }
    let is_remembered = rememberMe.unwrap_or(true);
    let with = With { key: false, session: true, is_remembered };
    let making = Box::pin(accounts::sign_up(&app, person, with, &client, &trail));
    let made = limits::mailing(&app, &context, to, making).await?;
    end_sessions_of_others(&app, &context, made.account.id).await?;
    let cookie = made.session.as_ref().map(|it| cookie::setting(&app, it));
    let data = SignedUp {
        user: Some(made.account.into()),
        organization: Some(made.organization.into()),
        token: made.session.map(|session| session.token.expose().to_owned()),
    };
    let mut answer = Success::ok("Signed up", data).into_response();
    answer.headers_mut().extend(cookie.map(|value| (header::SET_COOKIE, value)));
    Ok(answer)
}
