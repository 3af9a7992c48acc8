//! `/api/auth/sign-in/email`, `/sign-out`, `/get-session`

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::accounts;
use crate::domain::accounts::passwords;
use crate::error::Result;
use crate::http::auth::session_cookie;
use crate::http::auth::{
    InAnySession, MaybeInSession, SignOutSessions, end_sessions_of_other_accounts,
};
use crate::http::body::{Fields, FromFields, JsonBody, JsonNode, parse_presented_password, text};
use crate::http::edge::context::{RequestContext, SignInClient};
use crate::http::edge::idempotency::Idempotency;
use crate::http::edge::rate_limits::{self, RateLimitByAddress, SignInLimit};
use crate::http::edge::trusted_origin::FromTrustedOrigin;
use crate::http::query::{Query, parse_bool};
use crate::http::render::user::{
    BadRequest, Forbidden, TooLarge, Unauthorized, Unavailable, UnsupportedMediaType,
};
use crate::http::user::responses::{DONE, Done, Success};
use crate::http::user::wire::{Session, SignInResponse, User};
use crate::model::email::Email;
use crate::model::secret::Secret;
use crate::repo;

/// The credentials to sign in with.
#[derive(ToSchema)]
#[schema(as = user::SignInRequest)]
#[expect(non_snake_case, reason = "the contract's names")]
pub struct SignInRequest {
    #[schema(value_type = String, format = Email, examples("you@example.com"))]
    email: Email,
    #[schema(value_type = String, format = Password, examples("a-long-secure-passphrase"))]
    password: Secret,
    /// Whether the cookie persists when the browser is closed. Default: true.
    rememberMe: Option<bool>,
    /// Where to redirect after the address is verified, if it must be verified before the first
    /// sign-in: a path of this API or a URL of a trusted origin.
    #[schema(max_length = 2048, examples("/welcome"))]
    callbackURL: Option<String>,
}

impl FromFields for SignInRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let trusted = &fields.context.config.http.trusted_origins;
        let email = fields.required("email", text(Email::parse));
        let password = fields.required("password", parse_presented_password);
        let remember_me = fields.optional("rememberMe", JsonNode::into_bool);
        let callback_url = fields.optional("callbackURL", text(|it| trusted.parse_callback(it)));
        Some(Self {
            email: email?,
            password: password?,
            rememberMe: remember_me,
            callbackURL: callback_url,
        })
    }
}

/// Sign in with e-mail address and password: start a session and set its cookie.
///
/// The response to an unknown address and to a wrong password is the same, and takes the same time.
/// A session ends 7 days after its last use, and at the latest 30 days after its start. If the
/// request carries session cookies of other accounts, those sessions end.
#[utoipa::path(post, path = "/api/auth/sign-in/email", operation_id = "signInEmail", tag = "user",
    request_body = SignInRequest,
    responses((status = 200, description = "Signed in; the session's cookie is set.",
               body = Success<SignInResponse>),
              BadRequest, Unauthorized, Forbidden, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn sign_in(
    State(app): State<App>,
    _: FromTrustedOrigin,
    _: RateLimitByAddress<SignInLimit>,
    context: RequestContext,
    SignInClient(client): SignInClient,
    JsonBody { value: request, .. }: JsonBody<SignInRequest>,
) -> Result<([(HeaderName, HeaderValue); 1], Success<SignInResponse>)> {
    let SignInRequest { email, password, rememberMe, callbackURL } = request;
    let (presented, callback_url) = ((&email, password), callbackURL.as_deref());
    let audit = context.audit_context();
    let client = (&client, rememberMe.unwrap_or(true));
    let signing_in = passwords::sign_in(&app, presented, callback_url, client, &audit);
    let (account, session) =
        rate_limits::with_sign_in_limit(&app, &context, &email, signing_in).await?;
    end_sessions_of_other_accounts(&app, &context, account.id).await?;
    let cookie = session_cookie::set_cookie_header(&app, &session);
    let data = SignInResponse::new(account, session.token);
    Ok(([(header::SET_COOKIE, cookie)], Success::ok("Signed in", data)))
}

/// Sign out: the session and its tokens become invalid immediately, and the cookie is removed.
#[utoipa::path(post, path = "/api/auth/sign-out", operation_id = "signOut", tag = "user",
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "Signed out.", body = Success<Done>), BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn sign_out(
    State(app): State<App>,
    signing_out: SignOutSessions,
    context: RequestContext,
    _: Idempotency,
) -> Result<([(HeaderName, HeaderValue); 1], Success<Done>)> {
    signing_out.end_sessions(&app, &context).await?;
    let cookie = session_cookie::clear_cookie_header(&app);
    Ok(([(header::SET_COOKIE, cookie)], Success::ok("Signed out", DONE)))
}

/// The current session and its account.
#[derive(Serialize, ToSchema)]
#[schema(as = user::CurrentSession)]
pub struct CurrentSession {
    session: Session,
    user: User,
}

/// The response about the current session.
#[derive(Serialize, ToSchema)]
#[schema(as = user::MaybeSession)]
pub struct GetSessionResponse {
    success: bool,
    /// The HTTP status.
    #[schema(examples(200))]
    status: u16,
    #[schema(examples("OK"))]
    code: &'static str,
    message: &'static str,
    /// Null if the request has no valid session.
    #[schema(required)]
    data: Option<CurrentSession>,
}

/// Show the current session; `data` is null if the request has no valid session.
#[utoipa::path(get, path = "/api/auth/get-session", operation_id = "getSession", tag = "user",
    params(("disableCookieCache" = Option<bool>, Query, description = "Has no effect."),
           ("disableRefresh" = Option<bool>, Query, description = "Has no effect.")),
    security((), ("session" = []), ("bearer" = [])),
    responses((status = 200, description = "The session, or null.",
              body = GetSessionResponse),
              BadRequest, Unauthorized, Forbidden, Unavailable))]
pub(super) async fn get_session(
    State(app): State<App>,
    MaybeInSession(caller_session): MaybeInSession,
    mut query: Query,
) -> Result<axum::Json<GetSessionResponse>> {
    // Clients send these to bypass a cache or a refresh that this server does not have.
    query.optional("disableCookieCache", parse_bool);
    query.optional("disableRefresh", parse_bool);
    query.finish()?;
    let mut data = None;
    if let Some(InAnySession { person, session, .. }) = caller_session {
        data = app
            .db
            .run(async |db| {
                let current = repo::sessions::find(db, person.account, session).await?;
                let account = accounts::find(db, person.account).await?;
                let user = User::from(account);
                let ids = (person.account, session);
                let current = current.map(|current| Session::new(current, ids));
                Ok(current.map(|session| CurrentSession { session, user }))
            })
            .await?;
    }
    let message = if data.is_some() { "Signed in" } else { "Not signed in" };
    Ok(axum::Json(GetSessionResponse { success: true, status: 200, code: "OK", message, data }))
}
