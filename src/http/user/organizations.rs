//! `/api/user/organizations`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain;
use crate::error::Result;
use crate::http::auth::{AuthenticatedPerson, InAnySession, InSession};
use crate::http::body::{Fields, FromFields, JsonBody, text};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::edge::rate_limits;
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, TooLarge, Unauthorized, Unavailable,
    UnsupportedMediaType,
};
use crate::http::user::offset_page::OffsetPage;
use crate::http::user::responses::{OffsetList, Success};
use crate::http::user::wire::Organization;
use crate::model::names::OrganizationName;
use crate::model::organization_handle::OrganizationHandle;
use crate::repo::organizations;

/// List the organizations that the account is a member of, with its role in each.
///
/// With a token that is pinned to an organization, the list contains only that one.
#[utoipa::path(get, path = "/api/user/organizations", operation_id = "listOrganizations",
    tag = "user",
    params(("offset" = Option<i64>, Query, description = "How many items to skip. Default: 0."),
           ("limit" = Option<i64>, Query, description = "Page size, 1 to 100. Default: 20."),
           ("q" = Option<String>, Query,
            description = "Text that the name or the id must contain.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The organizations.", body = OffsetList<Organization>),
              BadRequest, Unauthorized, Forbidden, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    AuthenticatedPerson(person): AuthenticatedPerson,
    page: OffsetPage,
) -> Result<Json<OffsetList<Organization>>> {
    let (search, window) = (page.search.as_deref(), page.offset_and_limit());
    let (rows, total) = app
        .db
        .run(async |db| {
            organizations::list_for_account(db, person.account, person.pinned_to, search, window)
                .await
        })
        .await?;
    let items = rows.into_iter().map(Organization::from).collect();
    Ok(Json(OffsetList::ok("Organizations fetched", items, page.meta(total))))
}

/// The attributes of an organization to create.
#[derive(ToSchema)]
#[schema(as = user::CreateOrganizationRequest)]
pub struct CreateOrganizationRequest {
    #[schema(value_type = String, min_length = 1, max_length = 128, examples("Acme"))]
    name: OrganizationName,
    /// The organization's id. Default: a random id. Ids are unique regardless of case.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$",
             examples("acme"))]
    id: Option<OrganizationHandle>,
}

impl FromFields for CreateOrganizationRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name", text(OrganizationName::parse));
        let id = fields.optional("id", text(OrganizationHandle::parse));
        Some(Self { name: name?, id })
    }
}

/// Create an organization. The caller becomes its owner.
#[utoipa::path(post, path = "/api/user/organizations", operation_id = "createOrganization",
    tag = "user", request_body = CreateOrganizationRequest, params(IdempotencyHeader),
    security(("session" = []), ("bearer" = [])),
    responses((status = 201, description = "Created.", body = Success<Organization>), BadRequest,
              Unauthorized, Forbidden, Conflict, TooLarge, UnsupportedMediaType, IdempotencyReused,
              Unavailable))]
pub(super) async fn create(
    State(app): State<App>,
    InSession(InAnySession { person, session, .. }): InSession,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: request, fingerprint }: JsonBody<CreateOrganizationRequest>,
) -> Result<Response> {
    let CreateOrganizationRequest { name, id } = request;
    let count = rate_limits::count_organization_creation(&app, &context, person.account);
    idempotency
        .run_rate_limited(&app, &person, fingerprint, count, async |tx| {
            let (actor, attributes) = ((&*person, session), (&name, id.as_ref()));
            let audit = context.audit_context_for(StatusCode::CREATED);
            let created =
                domain::organizations::create(&app, tx, actor, attributes, &audit).await?;
            let body = Success::created("Organization created", Organization::from(created));
            Ok(ChangeResponse::created(body))
        })
        .await
}
