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
use crate::http::auth::{CountedRequest, InSession, MaybeInSession};
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
use crate::http::user::html_pages::{self, HtmlPage};
use crate::http::user::responses::{DONE, Done, Success};
use crate::model::mail::{LinkPurpose, MailKind};
use crate::model::secret::Secret;

/// The page that the mailed link leads to: a button, since mail scanners follow links.
///
/// It asks nothing of the server before the button is pressed, and then for the password where
/// there is no session of the account.
#[utoipa::path(get, path = "/api/auth/verify-email", operation_id = "showVerifyEmailPage",
    tag = "user", params(("token" = Option<String>, Query, description = "From the mailed link.")),
    responses((status = 200, description = "The page.", body = String,
               content_type = "text/html; charset=utf-8")))]
pub(super) async fn show_page(_: CountedRequest) -> HtmlPage {
    html_pages::VERIFY_EMAIL
}

/// The token of a mailed link, and the password of its account where there is no session of it.
#[derive(ToSchema)]
#[schema(as = user::VerifyEmailRequest)]
pub struct VerifyEmailRequest {
    #[schema(value_type = String)]
    token: Secret,
    /// Needed where the request comes in no session of the account.
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

/// That an address is proven.
#[derive(Serialize, ToSchema)]
#[schema(as = user::VerifiedEmail)]
#[expect(non_snake_case, reason = "the contract's name for such a URL")]
pub struct VerifiedEmail {
    /// Where to go on to, if that was said at signup.
    #[schema(required, examples("https://app.example.com/welcome"))]
    callbackURL: Option<String>,
}

/// Prove that an address is its account's person's, by the token of the mailed link.
///
/// Whoever reads the mailbox has to know the account's password, too: in a session of the account,
/// or with `password`; without either this is a 401, and the link stays good. The token is good
/// once, for 24 hours, until a newer one is mailed. Nothing else changes.
#[utoipa::path(post, path = "/api/auth/verify-email", operation_id = "verifyEmail", tag = "user",
    security((), ("session" = []), ("bearer" = [])),
    request_body = VerifyEmailRequest,
    responses((status = 200, description = "Proven.", body = Success<VerifiedEmail>), BadRequest,
              Unauthorized, Forbidden, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn verify(
    State(app): State<App>,
    _: FromTrustedOrigin,
    _: RateLimitByAddress<TokenCheckLimit>,
    MaybeInSession(asking): MaybeInSession,
    context: RequestContext,
    JsonBody { value: request, .. }: JsonBody<VerifyEmailRequest>,
) -> Result<Json<Success<VerifiedEmail>>> {
    let VerifyEmailRequest { token, password } = request;
    let account = links::find_account(&app, LinkPurpose::VerifyEmail, &token).await?;
    let own = asking.filter(|asking| asking.person.account == account);
    let proof = match (own, password) {
        (Some(own), _) => PasswordProof::Session(own.session),
        (None, Some(password)) => {
            let proving = reauthenticate(&app, account, password);
            let proving = rate_limits::with_password_limit(&app, &context, account, proving);
            PasswordProof::Password(proving.await?)
        }
        (None, None) => return Err(email_verification::password_required()),
    };
    let audit = context.audit_context();
    let verifying = email_verification::verify(&app, account, &token, &proof, &audit);
    let data = VerifiedEmail { callbackURL: verifying.await? };
    Ok(Json(Success::ok("E-mail address verified", data)))
}

/// Mail the link to prove one's address again; the one before stops working.
#[utoipa::path(post, path = "/api/auth/send-verification-email",
    operation_id = "sendVerificationEmail", tag = "user", params(IdempotencyHeader),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "A mail will be sent, unless the address is proven.",
               body = Success<Done>),
              BadRequest, Unauthorized, Forbidden, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn resend(
    State(app): State<App>,
    InSession { person, .. }: InSession,
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
            "This address is verified already"
        } else {
            "A mail with a link will be sent"
        };
        let body = Success::ok(message, DONE);
        Ok(ChangeResponse::ok(body))
    });
    let to = (purpose.as_str(), to.as_deref());
    let answer = rate_limits::with_mail_limit(&app, &context, to, sending).await;
    app.job_waker.notify_one();
    answer
}
