//! `/api/user/me`

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::accounts::verified_password::reauthenticate;
use crate::domain::accounts::{self, AccountChanges, deletion};
use crate::error::Result;
use crate::http::auth::session_cookie;
use crate::http::auth::{InAnySession, InSession, PersonScoped, UserRead, UserWrite};
use crate::http::body::{Fields, FromFields, JsonBody, JsonNode, parse_presented_password, text};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::edge::rate_limits;
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, TooLarge, Unauthorized, Unavailable,
    UnsupportedMediaType,
};
use crate::http::user::responses::{DONE, Done, Success};
use crate::http::user::wire::User;
use crate::model::account::AccountHandle;
use crate::model::names::PersonName;
use crate::model::secret::Secret;

/// Show the account of the credential.
#[utoipa::path(get, path = "/api/user/me", operation_id = "getUser", tag = "user",
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The account.", body = Success<User>), BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn show(
    State(app): State<App>,
    PersonScoped(person, _): PersonScoped<UserRead>,
) -> Result<Json<Success<User>>> {
    let account = app.db.run(async |db| accounts::find(db, person.account).await).await?;
    Ok(Json(Success::ok("User fetched successfully", account.into())))
}

/// The attributes of the account to change, at least one. Omitted attributes keep their values.
#[derive(ToSchema)]
#[schema(as = user::UpdateUserRequest)]
#[expect(non_snake_case, reason = "the contract's name")]
pub struct UpdateUserRequest {
    #[schema(value_type = Option<String>, nullable = false, min_length = 1, max_length = 256,
             examples("Your Name"))]
    fullName: Option<PersonName>,
    /// A short name, unique in the deployment.
    #[schema(value_type = Option<String>, nullable = false,
             pattern = "^[a-z0-9](-?[a-z0-9]){0,62}$", examples("yourname"))]
    handle: Option<AccountHandle>,
    /// Whether to send mails about a sign-in from a new network, a password change and a new
    /// personal access token.
    #[schema(nullable = false)]
    securityMails: Option<bool>,
}

impl FromFields for UpdateUserRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        if fields.is_empty() {
            fields.add_body_issue("At least one setting is required");
        }
        let full_name = fields.non_null("fullName", text(PersonName::parse));
        let handle = fields.non_null("handle", text(AccountHandle::parse));
        let security_mails = fields.non_null("securityMails", JsonNode::into_bool);
        Some(Self { fullName: full_name, handle, securityMails: security_mails })
    }
}

/// Change the account's name, handle and mail settings.
#[utoipa::path(put, path = "/api/user/me", operation_id = "updateUser", tag = "user",
    request_body = UpdateUserRequest, params(IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Changed.", body = Success<User>), BadRequest,
              Unauthorized, Forbidden, Conflict, TooLarge, UnsupportedMediaType, IdempotencyReused,
              Unavailable))]
pub(super) async fn update(
    State(app): State<App>,
    PersonScoped(person, _): PersonScoped<UserWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: request, fingerprint }: JsonBody<UpdateUserRequest>,
) -> Result<Response> {
    person.require_not_sso()?;
    let UpdateUserRequest { fullName: name, handle, securityMails: security_mails } = request;
    let changes = AccountChanges { name, handle, security_mails };
    let updating = idempotency.run(&app, &person, fingerprint, async |tx| {
        let account =
            accounts::update(&app, tx, &person, &changes, &context.audit_context()).await?;
        let body = Success::ok("User updated", User::from(account));
        Ok(ChangeResponse::ok(body))
    });
    let response = updating.await;
    app.mail_waker.notify_one();
    response
}

/// The password, which confirms the deletion.
#[derive(ToSchema)]
#[schema(as = user::DeleteUserRequest)]
pub struct DeleteUserRequest {
    #[schema(value_type = String, format = Password, examples("a-long-secure-passphrase"))]
    password: Secret,
}

impl FromFields for DeleteUserRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let password = fields.required("password", parse_presented_password);
        Some(Self { password: password? })
    }
}

/// Delete the account, its sessions and tokens, and the organizations that have no other member.
///
/// The keys of those organizations become invalid immediately, and their ids are never reused. No
/// personal data is kept outside the audit log.
#[utoipa::path(delete, path = "/api/user/me", operation_id = "deleteUser", tag = "user",
    request_body = DeleteUserRequest, security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "Deleted.", body = Success<Done>), BadRequest,
              Unauthorized, Forbidden, Conflict, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn delete(
    State(app): State<App>,
    InSession(InAnySession { person, .. }): InSession,
    context: RequestContext,
    _: Idempotency,
    JsonBody { value: request, .. }: JsonBody<DeleteUserRequest>,
) -> Result<([(HeaderName, HeaderValue); 1], Success<Done>)> {
    let verifying = reauthenticate(&app, person.account, request.password);
    let verified =
        rate_limits::with_password_limit(&app, &context, person.account, verifying).await?;
    deletion::delete(&app, &person, &verified, &context.audit_context()).await?;
    let cookie = session_cookie::clear_cookie_header(&app);
    Ok(([(header::SET_COOKIE, cookie)], Success::ok("Account deleted", DONE)))
}
