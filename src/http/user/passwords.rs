//! `/api/auth/request-password-reset`, `/reset-password`, `/change-password`

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::accounts::password_resets;
use crate::domain::accounts::passwords;
use crate::error::{Error, Result};
use crate::http::auth::session_cookie;
use crate::http::auth::{CountedRequest, InAnySession, InSession};
use crate::http::body::{
    Fields, FromFields, JsonBody, JsonNode, parse_presented_password, parse_secret,
    take_new_password, text,
};
use crate::http::edge::context::{RequestContext, SignInClient};
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::edge::rate_limits::{self, RateLimitByAddress, TokenCheckLimit};
use crate::http::edge::trusted_origin::FromTrustedOrigin;
use crate::http::query::Query;
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, TooLarge, Unauthorized, Unavailable,
    UnsupportedMediaType,
};
use crate::http::user::html_pages::MailedLinkPage;
use crate::http::user::responses::{DONE, Done, Success};
use crate::http::user::wire::SignInResponse;
use crate::model::email::Email;
use crate::model::mail::LinkPurpose;
use crate::model::password::NewPassword;
use crate::model::secret::Secret;

/// The account whose password is to be reset.
#[derive(ToSchema)]
#[schema(as = user::RequestPasswordResetRequest)]
#[expect(non_snake_case, reason = "the contract's name")]
pub struct RequestPasswordResetRequest {
    #[schema(value_type = String, format = Email, examples("you@example.com"))]
    email: Email,
    /// Where to redirect after the reset: a path of this API or a URL of a trusted origin.
    #[schema(nullable = false, max_length = 2048, examples("/welcome"))]
    redirectTo: Option<String>,
}

impl FromFields for RequestPasswordResetRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let trusted = &fields.context.config.http.trusted_origins;
        let email = fields.required("email", text(Email::parse));
        let redirect_to = fields.optional("redirectTo", text(|it| trusted.parse_callback(it)));
        Some(Self { email: email?, redirectTo: redirect_to })
    }
}

/// Request a mail with a link to reset the password.
///
/// The response is the same whether the address has an account or not.
#[utoipa::path(post, path = "/api/auth/request-password-reset",
    operation_id = "requestPasswordReset", tag = "user", request_body = RequestPasswordResetRequest,
    responses((status = 200, description = "A mail will be sent if the account exists.",
               body = Success<Done>),
              BadRequest, Forbidden, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn request_reset(
    State(app): State<App>,
    context: RequestContext,
    _: FromTrustedOrigin,
    _: CountedRequest,
    JsonBody { value: request, .. }: JsonBody<RequestPasswordResetRequest>,
) -> Result<Json<Success<Done>>> {
    let (purpose, audit) = (LinkPurpose::ResetPassword, context.audit_context());
    let redirect_to = request.redirectTo.as_deref();
    let requesting = passwords::request_link(&app, purpose, &request.email, redirect_to, &audit);
    let to = (purpose.as_str(), Some(request.email.as_str()));
    rate_limits::with_mail_limit(&app, &context, to, requesting).await?;
    let message = "If this address has an account, a mail with a link will be sent";
    Ok(Json(Success::ok(message, DONE)))
}

/// Show the HTML page that the mailed link opens: a form for the new password.
///
/// The page also lists what the reset will revoke. Nothing changes until the form is submitted.
#[utoipa::path(get, path = "/api/auth/reset-password", operation_id = "showResetPasswordPage",
    tag = "user",
    params(("token" = Option<String>, Query, description = "The token from the mailed link.")),
    responses((status = 200, description = "The HTML page.", body = String,
               content_type = "text/html; charset=utf-8"), BadRequest, Unavailable))]
pub(super) async fn show_page(
    State(app): State<App>,
    _: CountedRequest,
    mut query: Query,
) -> Result<MailedLinkPage> {
    let token = query.optional("token", |text| Ok(Secret::new(text.to_owned())));
    query.finish()?;
    let access = match token {
        Some(token) => password_resets::find_access(&app, &token).await?,
        None => None,
    };
    Ok(MailedLinkPage::ResetPassword(access))
}

/// The token of a mailed link, and the new password.
#[derive(ToSchema)]
#[schema(as = user::ResetPasswordRequest)]
#[expect(non_snake_case, reason = "the contract's name")]
pub struct ResetPasswordRequest {
    #[schema(value_type = String)]
    token: Secret,
    /// Must not be a common password or derived from the address.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128,
             examples("another-long-passphrase"))]
    newPassword: NewPassword,
}

impl FromFields for ResetPasswordRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let token = fields.required("token", parse_secret);
        let new_password = take_new_password(fields, "newPassword", None);
        Some(Self { token: token?, newPassword: new_password? })
    }
}

/// Confirms that the password was reset.
#[derive(Serialize, ToSchema)]
#[schema(as = user::ResetPassword)]
#[expect(non_snake_case, reason = "the contract's name for such a URL")]
pub struct ResetPasswordResponse {
    /// Always true.
    success: bool,
    /// Where to redirect, if `redirectTo` was sent with the request for the mail.
    #[schema(required, examples("https://app.example.com/welcome"))]
    callbackURL: Option<String>,
}

/// Reset the password with the token of the mailed link. All sessions end.
///
/// The token can be used once, expires after an hour, and is invalidated by a newer mail. The reset
/// also verifies the address.
///
/// If the address was never verified by someone who also knew the account's password, someone other
/// than the owner of the address may have created the account. The reset then also revokes the
/// account's personal access tokens and grants to apps, the API keys that its memberships created,
/// and the open invitations of these memberships and keys.
#[utoipa::path(post, path = "/api/auth/reset-password", operation_id = "resetPassword",
    tag = "user", request_body = ResetPasswordRequest,
    responses((status = 200, description = "The password is reset; sign in with it.",
              body = Success<ResetPasswordResponse>),
              BadRequest, Unauthorized, Forbidden, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn reset(
    State(app): State<App>,
    _: FromTrustedOrigin,
    _: RateLimitByAddress<TokenCheckLimit>,
    context: RequestContext,
    JsonBody { value: request, .. }: JsonBody<ResetPasswordRequest>,
) -> Result<Json<Success<ResetPasswordResponse>>> {
    let ResetPasswordRequest { token, newPassword } = request;
    let audit = context.audit_context();
    let callback_url = password_resets::reset(&app, &token, newPassword, &audit).await?;
    let data = ResetPasswordResponse { success: true, callbackURL: callback_url };
    Ok(Json(Success::ok("Password changed; sign in with the new password", data)))
}

/// The current password and the new one.
#[derive(ToSchema)]
#[schema(as = user::ChangePasswordRequest)]
#[expect(non_snake_case, reason = "the contract's names")]
pub struct ChangePasswordRequest {
    #[schema(value_type = String, format = Password, examples("a-long-secure-passphrase"))]
    currentPassword: Secret,
    /// Must not be a common password or derived from the address.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128,
             examples("another-long-passphrase"))]
    newPassword: NewPassword,
    /// Whether all other sessions end. Default: true.
    revokeOtherSessions: Option<bool>,
}

impl FromFields for ChangePasswordRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let current_password = fields.required("currentPassword", parse_presented_password);
        let new_password = take_new_password(fields, "newPassword", None);
        let revoke_others = fields.optional("revokeOtherSessions", JsonNode::into_bool);
        Some(Self {
            currentPassword: current_password?,
            newPassword: new_password?,
            revokeOtherSessions: revoke_others,
        })
    }
}

/// Change the account's password.
///
/// A new session replaces the current one. All other sessions end, unless `revokeOtherSessions` is
/// false.
#[utoipa::path(post, path = "/api/auth/change-password", operation_id = "changePassword",
    tag = "user", request_body = ChangePasswordRequest, params(IdempotencyHeader),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "Changed; the new session's cookie is set.",
               body = Success<SignInResponse>),
              BadRequest, Unauthorized, Forbidden, Conflict, TooLarge, UnsupportedMediaType,
              IdempotencyReused, Unavailable))]
pub(super) async fn change(
    State(app): State<App>,
    InSession(InAnySession { person, session, .. }): InSession,
    context: RequestContext,
    SignInClient(client): SignInClient,
    idempotency: Idempotency,
    JsonBody { value: request, fingerprint }: JsonBody<ChangePasswordRequest>,
) -> Result<Response> {
    let ChangePasswordRequest { currentPassword, newPassword, revokeOtherSessions } = request;
    let revokes_others = revokeOtherSessions.unwrap_or(true);
    // Hashing happens before the transaction. A replay skips it: its `currentPassword` is outdated
    // by now, and must not count as a failed attempt. `run` sends the response that `is_replay`
    // found, so it never uses the error.
    let prepared = if idempotency.is_replay(&app, &person, &fingerprint).await? {
        Err(Error::internal("the password was to be changed again by a replay"))
    } else {
        let preparing = passwords::prepare_change(&app, &person, currentPassword, newPassword);
        rate_limits::with_password_limit(&app, &context, person.account, preparing).await
    };
    let mut cookie = None;
    let response = idempotency.run(&app, &person, fingerprint, async |tx| {
        let (verified, hash) = prepared?;
        let (change, sessions) = ((&verified, hash.as_str()), (session, revokes_others));
        let audit = context.audit_context();
        let changed = passwords::change(&app, tx, change, sessions, &client, &audit).await?;
        let (account, session) = changed;
        cookie = Some(session_cookie::set_cookie_header(&app, &session));
        let data = SignInResponse::new(account, session.token);
        Ok(ChangeResponse::ok(Success::ok("Password changed", data)))
    });
    let mut response = response.await?;
    app.mail_waker.notify_one();
    if let Some(cookie) = cookie {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}
