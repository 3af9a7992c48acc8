//! `/api/user/organizations/{organizationId}/invites`, and accepting an invitation.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::organizations::invites;
use crate::domain::organizations::members;
use crate::error::{Error, Result};
use crate::http::auth::{
    CountedRequest, InAnySession, InSession, InvitesRead, MembersWrite, OrganizationScoped,
};
use crate::http::body::{Fields, FromFields, JsonBody, RequestFingerprint, parse_role, text};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::edge::rate_limits;
use crate::http::path::PathId;
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, NotFound, TooLarge, Unauthorized,
    Unavailable, UnsupportedMediaType,
};
use crate::http::user::html_pages::MailedLinkPage;
use crate::http::user::offset_page::OffsetPage;
use crate::http::user::responses::{DONE, Done, OffsetList, Success};
use crate::http::user::wire::Organization;
use crate::http::wire::Timestamp;
use crate::model;
use crate::model::audit::AuditContext;
use crate::model::email::Email;
use crate::model::ids::InviteId;
use crate::model::role::Role;
use crate::model::secret::Secret;
use crate::repo;

/// The kind of mail that these routes send, for the rate limits of mails.
const MAIL_KIND: &str = "invite";

/// An invitation to an organization.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Invite)]
#[serde(rename_all = "camelCase")]
pub struct Invite {
    #[schema(examples("inv_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    #[schema(format = Email, examples("you@example.com"))]
    email: String,
    /// The role of the membership: `owner`, `admin` or `member`.
    #[schema(examples("member"))]
    role: &'static str,
    /// `pending`, `accepted`, `revoked` or `expired`.
    #[schema(examples("pending"))]
    status: &'static str,
    expires_at: Timestamp,
    /// The id of the membership that sent it.
    #[schema(examples("user_FuHtj0C14AaKHJq1"))]
    invited_by: String,
    created_at: Timestamp,
}

impl From<model::invite::Invite> for Invite {
    fn from(invite: model::invite::Invite) -> Self {
        Self {
            id: invite.id.to_string(),
            email: invite.email,
            role: invite.role.as_str(),
            status: invite.status.as_str(),
            expires_at: Timestamp(invite.expires_at),
            invited_by: invite.invited_by,
            created_at: Timestamp(invite.created_at),
        }
    }
}

/// List an organization's invitations, newest first.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/invites",
    operation_id = "listInvites", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("offset" = Option<i64>, Query, description = "How many items to skip. Default: 0."),
           ("limit" = Option<i64>, Query, description = "Page size, 1 to 100. Default: 20."),
           ("q" = Option<String>, Query, description = "Text that the address must contain.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The invitations.", body = OffsetList<Invite>),
              BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<InvitesRead>,
    page: OffsetPage,
) -> Result<Json<OffsetList<Invite>>> {
    let organization = caller.organization;
    page.respond(
        &app,
        organization,
        ("Invitations fetched", Invite::from),
        async |db, search, window| repo::invites::list(db, organization, search, window).await,
    )
    .await
}

/// The address to invite, and the role.
#[derive(ToSchema)]
#[schema(as = user::CreateInviteRequest)]
pub struct CreateInviteRequest {
    #[schema(value_type = String, format = Email, max_length = 256, examples("you@example.com"))]
    email: Email,
    /// The role of the membership: `owner`, `admin` or `member`.
    #[schema(value_type = String, examples("member"))]
    role: Role,
}

impl FromFields for CreateInviteRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let email = fields.required("email", text(Email::parse));
        let role = fields.required("role", parse_role);
        Some(Self { email: email?, role: role? })
    }
}

/// Invite an e-mail address: send it a mail with a link that can be used once, within 7 days.
///
/// It replaces an open invitation of the same address. Only owners may invite owners. If the
/// organization was created without an account, the first account that accepts an invitation as an
/// owner claims the membership that was created with the organization.
#[utoipa::path(post, path = "/api/user/organizations/{organizationId}/invites",
    operation_id = "createInvite", tag = "user", request_body = CreateInviteRequest,
    params(("organizationId" = String, Path, description = "The organization's id."),
           IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 201, description = "Invited.", body = Success<Invite>), BadRequest,
              Unauthorized, Forbidden, Conflict, TooLarge, UnsupportedMediaType, IdempotencyReused,
              Unavailable))]
pub(super) async fn create(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<MembersWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: request, fingerprint }: JsonBody<CreateInviteRequest>,
) -> Result<Response> {
    let is_replay = idempotency.is_replay(&app, &caller, &fingerprint).await?;
    let to = (MAIL_KIND, Some(request.email.as_str()).filter(|_| !is_replay));
    let check = async |_: &mut _| members::require_role_for(&caller, request.role);
    let inviting = idempotency.run_checked(&app, &caller, fingerprint, check, async |tx| {
        let (invitee, audit) =
            ((&request.email, request.role), context.audit_context_for(StatusCode::CREATED));
        let invite = invites::create(&app, tx, &caller, invitee, &audit).await?;
        let body = Success::created("Invitation sent", Invite::from(invite));
        Ok(ChangeResponse::created(body))
    });
    let response = rate_limits::with_mail_limit(&app, &context, to, Box::pin(inviting)).await;
    app.mail_waker.notify_one();
    response
}

fn parse_id(text: &str) -> Result<InviteId> {
    InviteId::parse(text).ok_or_else(|| Error::not_found("There is no such invitation"))
}

/// Revoke an invitation, effective immediately.
#[utoipa::path(delete, path = "/api/user/organizations/{organizationId}/invites/{id}",
    operation_id = "revokeInvite", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The invitation's id."),
           IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Revoked.", body = Success<Done>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn revoke(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<MembersWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    PathId(id): PathId,
) -> Result<Response> {
    let id = parse_id(&id)?;
    idempotency
        .run(&app, &caller, RequestFingerprint::NOTHING, async |tx| {
            invites::revoke(tx, &caller, id, &context.audit_context()).await?;
            let body = Success::ok("Invitation revoked", DONE);
            Ok(ChangeResponse::ok(body))
        })
        .await
}

/// Send an invitation again, valid for another 7 days. It invalidates the links sent before.
#[utoipa::path(post, path = "/api/user/organizations/{organizationId}/invites/{id}/resend",
    operation_id = "resendInvite", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The invitation's id."),
           IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Sent again.", body = Success<Invite>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn resend(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<MembersWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    PathId(id): PathId,
) -> Result<Response> {
    let id = parse_id(&id)?;
    let mut to = None;
    if !idempotency.is_replay(&app, &caller, &RequestFingerprint::NOTHING).await? {
        let organization = caller.organization;
        let find = async |db: &mut _| repo::invites::find(db, organization, id).await;
        to = app.db.tenant_transaction(organization, find).await?.map(|invite| invite.email);
    }
    let check = async |tx: &mut _| invites::require_right_to_resend(tx, &caller, id).await;
    let inviting =
        idempotency.run_checked(&app, &caller, RequestFingerprint::NOTHING, check, async |tx| {
            let invite = invites::resend(&app, tx, &caller, id, &context.audit_context()).await?;
            let body = Success::ok("Invitation sent again", Invite::from(invite));
            Ok(ChangeResponse::ok(body))
        });
    let response = rate_limits::with_mail_limit(
        &app,
        &context,
        (MAIL_KIND, to.as_deref()),
        Box::pin(inviting),
    )
    .await;
    app.mail_waker.notify_one();
    response
}

/// Show the HTML page that the mailed link opens: a button to accept the invitation.
#[utoipa::path(get, path = "/api/user/invites/{token}/accept", operation_id = "showInvitePage",
    tag = "user",
    params(("token" = String, Path, description = "The token from the mailed link.")),
    responses((status = 200, description = "The HTML page.", body = String,
               content_type = "text/html; charset=utf-8")))]
pub(super) async fn show_page(_: CountedRequest) -> MailedLinkPage {
    MailedLinkPage::AcceptInvite
}

/// Accept an invitation.
///
/// The request must be made in a session of the invited account: its e-mail address must be the
/// invited one, and verified.
#[utoipa::path(post, path = "/api/user/invites/{token}/accept", operation_id = "acceptInvite",
    tag = "user",
    params(("token" = String, Path, description = "The token from the mailed link."),
           IdempotencyHeader),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "The organization, with the account's role.",
               body = Success<Organization>),
              BadRequest, Unauthorized, Forbidden, NotFound, Conflict, IdempotencyReused,
              Unavailable))]
pub(super) async fn accept(
    State(app): State<App>,
    InSession(InAnySession { person, session, .. }): InSession,
    context: RequestContext,
    idempotency: Idempotency,
    PathId(token): PathId,
) -> Result<Response> {
    let token = Secret::new(token);
    // The path contains the token, so the audit log records the route instead.
    let audit = AuditContext { path: context.route.clone(), ..context.audit_context() };
    let count = rate_limits::count_token_check(&app, &context);
    idempotency
        .run_rate_limited(&app, &person, RequestFingerprint::NOTHING, count, async |tx| {
            let actor = (&*person, session);
            let organization = invites::accept(&app, tx, actor, &token, &audit).await?;
            let body = Success::ok("Invitation accepted", Organization::from(organization));
            Ok(ChangeResponse::ok(body))
        })
        .await
}
