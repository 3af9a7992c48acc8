//! `/api/auth/sign-in/email`, `/sign-out`, `/get-session`

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::{accounts, passwords};
use crate::error::Result;
use crate::http::body::{Fields, FromFields, JsonBody, Node, shown_password, text};
use crate::http::caller::{InSession, MaybeInSession, SigningOut, end_sessions_of_others};
use crate::http::context::{RequestContext, SigningIn};
use crate::http::cookie;
use crate::http::idempotency::Idempotency;
use crate::http::limits::{self, Limited, SignIn};
use crate::http::query::{Query, boolean};
use crate::http::trusted_page::FromTrustedPage;
use crate::http::user::dialect::{
    BadRequest, DONE, Done, Forbidden, Success, TooLarge, Unauthorized, Unavailable,
    UnsupportedMediaType,
};
use crate::http::user::wire::{Session, SignedIn, User};
use crate::model::email::Email;
use crate::model::secret::Secret;
use crate::repo;

/// Somebody who has an account.
#[derive(ToSchema)]
#[schema(as = user::SignInRequest)]
#[expect(non_snake_case, reason = "the contract's names")]
pub struct SignInRequest {
    #[schema(value_type = String, format = Email, examples("you@example.com"))]
    email: Email,
    #[schema(value_type = String, format = Password, examples("a-long-secure-passphrase"))]
    password: Secret,
    /// Whether the browser is to keep the cookie when it closes; it is, where left out.
    rememberMe: Option<bool>,
    /// Where to go on to after proving the address, if that is to be done first.
    #[schema(max_length = 2048, examples("/welcome"))]
    callbackURL: Option<String>,
}

impl FromFields for SignInRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let trusted = &fields.rules.config.http.trusted_origins;
        let email = fields.required("email", text(Email::parse));
        let password = fields.required("password", shown_password);
        let remember_me = fields.optional("rememberMe", Node::into_bool);
        let callback_url = fields.optional("callbackURL", text(|it| trusted.parse_callback(it)));
        Some(Self {
            email: email?,
            password: password?,
            rememberMe: remember_me,
            callbackURL: callback_url,
        })
    }
}

/// Sign in with email and password: a new session, and its cookie.
///
/// An unknown address and a wrong password get the same answer, at the same cost. A session ends 7
/// days after it was last used, and 30 days after it was started. Sessions of other accounts whose
/// cookies the request brings end.
#[utoipa::path(post, path = "/api/auth/sign-in/email", operation_id = "signInEmail", tag = "user",
    request_body = SignInRequest,
    responses((status = 200, description = "Signed in; the session's cookie is set.",
               body = Success<SignedIn>),
              BadRequest, Unauthorized, Forbidden, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn sign_in(
    State(app): State<App>,
    _: FromTrustedPage,
    _: Limited<SignIn>,
    context: RequestContext,
    SigningIn(client): SigningIn,
    JsonBody { value: request, .. }: JsonBody<SignInRequest>,
) -> Result<([(HeaderName, HeaderValue); 1], Success<SignedIn>)> {
    let SignInRequest { email, password, rememberMe, callbackURL } = request;
    let (shown, callback_url) = ((&email, password), callbackURL.as_deref());
    let trail = context.trail();
    let client = (&client, rememberMe.unwrap_or(true));
    let signing_in = passwords::sign_in(&app, shown, callback_url, client, &trail);
    let (account, session) = limits::signing_in(&app, &context, &email, signing_in).await?;
    end_sessions_of_others(&app, &context, account.id).await?;
    let cookie = cookie::setting(&app, &session);
    let data = SignedIn::of(account, &session);
    Ok(([(header::SET_COOKIE, cookie)], Success::ok("Signed in", data)))
}

/// Sign out: the session and its tokens stop at once, and the cookie is taken away.
#[utoipa::path(post, path = "/api/auth/sign-out", operation_id = "signOut", tag = "user",
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "Signed out.", body = Success<Done>), BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn sign_out(
    State(app): State<App>,
    signing_out: SigningOut,
    context: RequestContext,
    _: Idempotency,
) -> Result<([(HeaderName, HeaderValue); 1], Success<Done>)> {
    signing_out.end(&app, &context).await?;
    let cookie = cookie::clearing(&app);
    Ok(([(header::SET_COOKIE, cookie)], Success::ok("Signed out", DONE)))
}

/// The session that asks, and whose it is.
#[derive(Serialize, ToSchema)]
#[schema(as = user::CurrentSession)]
pub struct CurrentSession {
    session: Session,
    user: User,
}

/// An answer about the session that asks.
#[derive(Serialize, ToSchema)]
#[schema(as = user::MaybeSession)]
pub struct MaybeSession {
    success: bool,
    /// The status of the answer.
    #[schema(examples(200))]
    status: u16,
    #[schema(examples("OK"))]
    code: &'static str,
    message: &'static str,
    /// Null where nobody is signed in.
    #[schema(required)]
    data: Option<CurrentSession>,
}

/// Show the session that asks; null where nobody is signed in.
#[utoipa::path(get, path = "/api/auth/get-session", operation_id = "getSession", tag = "user",
    params(("disableCookieCache" = Option<bool>, Query, description = "Changes nothing."),
           ("disableRefresh" = Option<bool>, Query, description = "Changes nothing.")),
    security((), ("session" = []), ("bearer" = [])),
    responses((status = 200, description = "The session, if there is one.", body = MaybeSession),
              BadRequest, Unauthorized, Forbidden, Unavailable))]
pub(super) async fn get_session(
    State(app): State<App>,
    MaybeInSession(asking): MaybeInSession,
    mut query: Query,
) -> Result<axum::Json<MaybeSession>> {
    // Nothing is cached that these could ask to pass over.
    query.optional("disableCookieCache", boolean);
    query.optional("disableRefresh", boolean);
    query.finish()?;
    let mut data = None;
    if let Some(InSession { person, session, .. }) = asking {
        data = app
            .db
            .run(async |db| {
                let found = repo::sessions::find(db, person.account, session).await?;
                let account = accounts::find(db, person.account).await?;
                let user = User::from(account);
                let asking = (person.account, session);
                let shown = found.map(|found| Session::shown(found, asking));
                Ok(shown.map(|session| CurrentSession { session, user }))
            })
            .await?;
    }
    let message = if data.is_some() { "Signed in" } else { "Not signed in" };
    Ok(axum::Json(MaybeSession { success: true, status: 200, code: "OK", message, data }))
}
