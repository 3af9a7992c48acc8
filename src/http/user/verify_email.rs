//! `/api/auth/verify-email`, `/api/auth/send-verification-email`

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::accounts;
use crate::domain::accounts::email_verification::{self, PasswordProof};
use crate::domain::accounts::verified_password::reauthenticate;
use crate::domain::links;
use crate::domain::mail;
use crate::error::Result;
use crate::http::auth::{CountedRequest, InAnySession, InSession, MaybeInSession};
use crate::http::body::{
    Fields, FromFields, JsonBody, RequestFingerprint, parse_presented_password, parse_secret,
};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::edge::rate_limits::{self, RateLimitByAddress, TokenCheckLimit};
use crate::http::edge::trusted_origin::FromTrustedOrigin;
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, TooLarge, Unauthorized, Unavailable,
    UnsupportedMediaType,
};
use crate::http::user::html_pages::MailedLinkPage;
use crate::http::user::responses::{DONE, Done, Success};
use crate::model::mail::{LinkPurpose, MailKind};
use crate::model::secret::Secret;

/// Show the HTML page that the mailed link opens: a button, since mail scanners follow links.
///
/// Nothing is verified until the button is pressed. Without a session of the account, the page then
/// asks for the password.
#[utoipa::path(get, path = "/api/auth/verify-email", operation_id = "showVerifyEmailPage",
    tag = "user",
    params(("token" = Option<String>, Query, description = "The token from the mailed link.")),
    responses((status = 200, description = "The HTML page.", body = String,
               content_type = "text/html; charset=utf-8")))]
pub(super) async fn show_page(_: CountedRequest) -> MailedLinkPage {
    MailedLinkPage::VerifyEmail
}

/// The token of a mailed link, and the password of its account.
#[derive(ToSchema)]
#[schema(as = user::VerifyEmailRequest)]
pub struct VerifyEmailRequest {
    #[schema(value_type = String)]
    token: Secret,
    /// Required unless the request is made in a session of the account.
    #[schema(value_type = Option<String>, nullable = false, format = Password,
             examples("a-long-secure-passphrase"))]
    password: Option<Secret>,
}

impl FromFields for VerifyEmailRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let token = fields.required("token", parse_secret);
        let password = fields.optional("password", parse_presented_password);
        Some(Self { token: token?, password })
    }
}

/// Confirms that the address is verified.
#[derive(Serialize, ToSchema)]
#[schema(as = user::VerifiedEmail)]
#[expect(non_snake_case, reason = "the contract's name for such a URL")]
pub struct VerifiedEmail {
    /// Where to redirect, if `callbackURL` was sent at sign-up, or with the sign-in that had the
    /// link mailed again.
    #[schema(required, examples("https://app.example.com/welcome"))]
    callbackURL: Option<String>,
}

/// Verify the e-mail address of an account with the token of the mailed link.
///
/// In addition to the token, the request must be made in a session of the account or contain its
/// `password`. Otherwise it is rejected with 401, and the token remains valid. The token can be
/// used once, expires after 24 hours, and is invalidated by a newer mail.
#[utoipa::path(post, path = "/api/auth/verify-email", operation_id = "verifyEmail", tag = "user",
    security((), ("session" = []), ("bearer" = [])),
    request_body = VerifyEmailRequest,
    responses((status = 200, description = "Verified.", body = Success<VerifiedEmail>), BadRequest,
              Unauthorized, Forbidden, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn verify(
    State(app): State<App>,
    _: FromTrustedOrigin,
    _: RateLimitByAddress<TokenCheckLimit>,
    MaybeInSession(caller_session): MaybeInSession,
    context: RequestContext,
    JsonBody { value: request, .. }: JsonBody<VerifyEmailRequest>,
) -> Result<Json<Success<VerifiedEmail>>> {
    let VerifyEmailRequest { token, password } = request;
    let account = links::find_account(&app, LinkPurpose::VerifyEmail, &token).await?;
    let is_proof = |session: &InAnySession| {
        session.person.account == account && !session.person.is_in_sso_session()
    };
    let own_session = caller_session.filter(is_proof);
    let proof = match (own_session, password) {
        (Some(own_session), _) => PasswordProof::Session(own_session.session),
        (None, Some(password)) => {
            let checking = reauthenticate(&app, account, password);
            let checking = rate_limits::with_password_limit(&app, &context, account, checking);
            PasswordProof::Password(checking.await?)
        }
        (None, None) => return Err(email_verification::password_required()),
    };
    let audit = context.audit_context();
    let verifying = email_verification::verify(&app, account, &token, &proof, &audit);
    let data = VerifiedEmail { callbackURL: verifying.await? };
    Ok(Json(Success::ok("E-mail address verified", data)))
}

/// Send another mail with a link to verify the address. It invalidates the previous link.
#[utoipa::path(post, path = "/api/auth/send-verification-email",
    operation_id = "sendVerificationEmail", tag = "user", params(IdempotencyHeader),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "A mail is sent unless the address is verified.",
               body = Success<Done>),
              BadRequest, Unauthorized, Forbidden, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn resend(
    State(app): State<App>,
    InSession(InAnySession { person, .. }): InSession,
    context: RequestContext,
    idempotency: Idempotency,
) -> Result<Response> {
    let purpose = LinkPurpose::VerifyEmail;
    let mut to = None;
    if !idempotency.is_replay(&app, &person, &RequestFingerprint::NOTHING).await? {
        let account = app.db.run(async |db| accounts::find(db, person.account).await).await?;
        to = Some(account).filter(|it| !it.is_proven).map(|account| account.email);
    }
    let sending = idempotency.run(&app, &person, RequestFingerprint::NOTHING, async |tx| {
        let account = accounts::find(tx, person.account).await?;
        if !account.is_proven {
            let mail = (MailKind::Link(purpose), account.email.as_str());
            mail::queue(&app, tx, mail, None, context.received_at).await?;
        }
        let message = if account.is_proven {
            "This address is already verified"
        } else {
            "A mail with a link will be sent"
        };
        let body = Success::ok(message, DONE);
        Ok(ChangeResponse::ok(body))
    });
    let to = (purpose.as_str(), to.as_deref());
    let response = rate_limits::with_mail_limit(&app, &context, to, sending).await;
    app.mail_waker.notify_one();
    response
}
