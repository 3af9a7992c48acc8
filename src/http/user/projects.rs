//! `/api/user/organizations/{organizationId}/projects`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::organizations::projects::{self, ProjectSpec, no_such_project};
use crate::error::Result;
use crate::http::auth::{OrganizationScoped, ProjectsRead, ProjectsWrite};
use crate::http::body::{Fields, FromFields, JsonBody, RequestFingerprint, text};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::path::PathId;
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, NotFound, TooLarge, Unauthorized,
    Unavailable, UnsupportedMediaType,
};
use crate::http::user::offset_page::OffsetPage;
use crate::http::user::responses::{DONE, Done, OffsetList, Success};
use crate::http::wire::Timestamp;
use crate::model;
use crate::model::ids::ProjectId;
use crate::model::names::ProjectName;
use crate::model::project::{Description, ProjectChanges, Slug};
use crate::repo;

/// A project of an organization.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Project)]
#[serde(rename_all = "camelCase")]
pub struct Project {
    #[schema(examples("prj_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    #[schema(examples("My Project"))]
    name: String,
    /// A short name, unique in the organization.
    #[schema(examples("my-project"))]
    slug: String,
    #[schema(required, examples("What we are working on"))]
    description: Option<String>,
    /// The membership that created it; if a key did, the membership that created the key.
    #[schema(examples("user_4fTq0kXyT1hJc8ZB"))]
    created_by: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<model::project::Project> for Project {
    fn from(project: model::project::Project) -> Self {
        Self {
            id: project.id.to_string(),
            name: project.name,
            slug: project.slug,
            description: project.description,
            created_by: project.created_by,
            created_at: Timestamp(project.created_at),
            updated_at: Timestamp(project.updated_at),
        }
    }
}

/// Parses the id in a path.
///
/// # Errors
/// Not found if the text is not the id of a project.
fn parse_id(text: &str) -> Result<ProjectId> {
    ProjectId::parse(text).ok_or_else(no_such_project)
}

/// List the organization's projects, newest first.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/projects",
    operation_id = "listProjects", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("offset" = Option<i64>, Query, description = "How many items to skip. Default: 0."),
           ("limit" = Option<i64>, Query, description = "Page size, 1 to 100. Default: 20."),
           ("q" = Option<String>, Query,
            description = "Text that the name or the slug must contain.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The projects.", body = OffsetList<Project>), BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<ProjectsRead>,
    page: OffsetPage,
) -> Result<Json<OffsetList<Project>>> {
    let organization = caller.organization;
    page.respond(
        &app,
        organization,
        ("Projects fetched", Project::from),
        async |db, search, window| repo::projects::list(db, organization, search, window).await,
    )
    .await
}

/// Show a project of the organization.
#[utoipa::path(get, path = "/api/user/organizations/{organizationId}/projects/{id}",
    operation_id = "getProject", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The project's id.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The project.", body = Success<Project>), BadRequest,
              Unauthorized, Forbidden, NotFound, Unavailable))]
pub(super) async fn show(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<ProjectsRead>,
    PathId(id): PathId,
) -> Result<Json<Success<Project>>> {
    let id = parse_id(&id)?;
    let project = app
        .db
        .tenant_transaction(caller.organization, async |db| projects::find(db, &caller, id).await)
        .await?;
    Ok(Json(Success::ok("Project fetched", project.into())))
}

/// The attributes of a project to create.
#[derive(ToSchema)]
#[schema(as = user::CreateProjectRequest)]
pub struct CreateProjectRequest {
    #[schema(value_type = String, min_length = 1, max_length = 128, examples("My Project"))]
    name: ProjectName,
    /// A short name, unique in the organization. Default: derived from `name`.
    #[schema(value_type = Option<String>,
             pattern = "^[a-z0-9](-?[a-z0-9]){0,62}$", examples("my-project"))]
    slug: Option<Slug>,
    #[schema(value_type = Option<String>, max_length = 1024,
             examples("What we are working on"))]
    description: Option<Description>,
}

impl FromFields for CreateProjectRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name", text(ProjectName::parse));
        let slug = fields.optional("slug", text(Slug::parse));
        let description = fields.optional("description", text(Description::parse));
        Some(Self { name: name?, slug, description })
    }
}

/// Create a project, if the organization's plan allows another one.
#[utoipa::path(post, path = "/api/user/organizations/{organizationId}/projects",
    operation_id = "createProject", tag = "user", request_body = CreateProjectRequest,
    params(("organizationId" = String, Path, description = "The organization's id."),
           IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 201, description = "Created.", body = Success<Project>), BadRequest,
              Unauthorized, Forbidden, Conflict, TooLarge, UnsupportedMediaType, IdempotencyReused,
              Unavailable))]
pub(super) async fn create(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<ProjectsWrite>,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: request, fingerprint }: JsonBody<CreateProjectRequest>,
) -> Result<Response> {
    let CreateProjectRequest { name, slug, description } = request;
    let spec = ProjectSpec { name, slug, description };
    idempotency
        .run(&app, &caller, fingerprint, async |tx| {
            let project = projects::create(
                &app,
                tx,
                &caller,
                spec,
                &context.audit_context_for(StatusCode::CREATED),
            )
            .await?;
            let body = Success::created("Project created", Project::from(project));
            Ok(ChangeResponse::created(body))
        })
        .await
}

/// The attributes to change, at least one. Omitted attributes keep their values.
#[derive(ToSchema)]
#[schema(as = user::UpdateProjectRequest)]
pub struct UpdateProjectRequest {
    #[schema(value_type = Option<String>, nullable = false, min_length = 1, max_length = 128,
             examples("My Project"))]
    name: Option<ProjectName>,
    /// A short name, unique in the organization.
    #[schema(value_type = Option<String>, nullable = false,
             pattern = "^[a-z0-9](-?[a-z0-9]){0,62}$", examples("my-project"))]
    slug: Option<Slug>,
    /// Null removes it.
    #[schema(value_type = Option<String>, max_length = 1024, examples("What we are working on"))]
    #[expect(clippy::option_option, reason = "absent, null and a text are three things")]
    description: Option<Option<Description>>,
}

impl FromFields for UpdateProjectRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        if fields.is_empty() {
            fields.add_body_issue("At least one setting is required");
        }
        let name = fields.non_null("name", text(ProjectName::parse));
        let slug = fields.non_null("slug", text(Slug::parse));
        let description = fields.nullable("description", text(Description::parse));
        Some(Self { name, slug, description })
    }
}

/// Change a project.
#[utoipa::path(put, path = "/api/user/organizations/{organizationId}/projects/{id}",
    operation_id = "updateProject", tag = "user", request_body = UpdateProjectRequest,
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The project's id."), IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Changed.", body = Success<Project>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMediaType,
              IdempotencyReused,
              Unavailable))]
pub(super) async fn update(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<ProjectsWrite>,
    PathId(id): PathId,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: request, fingerprint }: JsonBody<UpdateProjectRequest>,
) -> Result<Response> {
    let id = parse_id(&id)?;
    let UpdateProjectRequest { name, slug, description } = request;
    let changes = ProjectChanges { name, slug, description };
    idempotency
        .run(&app, &caller, fingerprint, async |tx| {
            let project =
                projects::update(tx, &caller, id, &changes, &context.audit_context()).await?;
            let body = Success::ok("Project updated", Project::from(project));
            Ok(ChangeResponse::ok(body))
        })
        .await
}

/// Delete a project. Its slug becomes available again.
#[utoipa::path(delete, path = "/api/user/organizations/{organizationId}/projects/{id}",
    operation_id = "deleteProject", tag = "user",
    params(("organizationId" = String, Path, description = "The organization's id."),
           ("id" = String, Path, description = "The project's id."), IdempotencyHeader),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "Deleted.", body = Success<Done>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, IdempotencyReused, Unavailable))]
pub(super) async fn delete(
    State(app): State<App>,
    OrganizationScoped(caller, _): OrganizationScoped<ProjectsWrite>,
    PathId(id): PathId,
    context: RequestContext,
    idempotency: Idempotency,
) -> Result<Response> {
    let id = parse_id(&id)?;
    idempotency
        .run(&app, &caller, RequestFingerprint::NOTHING, async |tx| {
            projects::delete(tx, &caller, id, &context.audit_context()).await?;
            let body = Success::ok("Project deleted", DONE);
            Ok(ChangeResponse::ok(body))
        })
        .await
}
