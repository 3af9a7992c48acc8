//! Projects of an organization: create, update, find, delete.

use std::sync::Arc;

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::{confirm_caller, record_caller_event};
use crate::domain::organizations::plan_limits::{LimitedResource, check_plan_limit};
use crate::error::{Error, Result};
use crate::model::audit::{AuditContext, AuditEventType};
use crate::model::audit_detail::diff;
use crate::model::caller::Caller;
use crate::model::ids::{OrganizationId, ProjectId};
use crate::model::names::ProjectName;
use crate::model::plan::Plan;
use crate::model::project::{Description, NewProject, Project, ProjectChanges, Slug};
use crate::model::scope::BuiltInScope;
use crate::repo::{organizations, projects};

const WRITE_SCOPE: BuiltInScope = BuiltInScope::ProjectsWrite;

/// The attributes of a project to create.
pub struct ProjectSpec {
    /// Its display name.
    pub name: ProjectName,
    /// Its slug; derived from the name if omitted.
    pub slug: Option<Slug>,
    /// Its description.
    pub description: Option<Description>,
}

/// Creates a project.
///
/// # Errors
/// Plan limit; conflict if another project of the organization has the slug; unauthenticated or
/// forbidden if the caller may no longer do this.
pub async fn create(
    app: &App,
    tx: &mut PgConnection,
    caller: &Caller,
    spec: ProjectSpec,
    audit: &AuditContext,
) -> Result<Project> {
    let (caller, plan) = lock_and_confirm_caller(tx, caller, audit).await?;
    check_plan_limit(app, tx, (caller.organization, plan), LimitedResource::Projects).await?;
    let slug = match spec.slug {
        Some(slug) => slug,
        None => suggest_slug(app, tx, caller.organization, &spec.name).await?,
    };
    let new = NewProject {
        id: ProjectId::new(audit.at, &*app.entropy),
        organization: caller.organization,
        name: &spec.name,
        slug: &slug,
        description: spec.description.as_ref(),
        created_by: caller.membership,
        created_at: audit.at,
    };
    let project = projects::insert(tx, &new).await?;
    let detail = json!({ "name": project.name, "slug": project.slug });
    record_caller_event(tx, &caller, AuditEventType::ProjectCreated, project.id, detail, audit)
        .await?;
    Ok(project)
}

/// Updates a project.
///
/// # Errors
/// Not found; conflict if another project of the organization has the slug; unauthenticated or
/// forbidden if the caller may no longer do this.
pub async fn update(
    tx: &mut PgConnection,
    caller: &Caller,
    id: ProjectId,
    changes: &ProjectChanges,
    audit: &AuditContext,
) -> Result<Project> {
    let (caller, _) = lock_and_confirm_caller(tx, caller, audit).await?;
    let before = find(tx, &caller, id).await?;
    let project = projects::update(tx, caller.organization, id, changes, audit.at).await?;
    let project = project.ok_or_else(no_such_project)?;
    let mut detail = diff(audited_fields(&before), audited_fields(&project));
    if before.description != project.description {
        // Records that the description changed, not its text.
        detail["description"] = json!(true);
    }
    record_caller_event(tx, &caller, AuditEventType::ProjectUpdated, id, detail, audit).await?;
    Ok(project)
}

/// Returns the name and slug, as the audit log shows them.
fn audited_fields(project: &Project) -> serde_json::Value {
    json!({ "name": project.name, "slug": project.slug })
}

/// Deletes a project.
///
/// # Errors
/// Not found; unauthenticated or forbidden if the caller may no longer do this.
pub async fn delete(
    tx: &mut PgConnection,
    caller: &Caller,
    id: ProjectId,
    audit: &AuditContext,
) -> Result<()> {
    let (caller, _) = lock_and_confirm_caller(tx, caller, audit).await?;
    let project = find(tx, &caller, id).await?;
    if !projects::delete(tx, caller.organization, id).await? {
        return Err(no_such_project());
    }
    let detail = json!({ "name": project.name, "slug": project.slug });
    record_caller_event(tx, &caller, AuditEventType::ProjectDeleted, id, detail, audit).await
}

/// Returns a project of the caller's organization.
///
/// # Errors
/// Not found if there is no such project.
pub async fn find(tx: &mut PgConnection, caller: &Caller, id: ProjectId) -> Result<Project> {
    let project = projects::find(tx, caller.organization, id).await?;
    project.ok_or_else(no_such_project)
}

/// Returns the error for a project that does not exist or belongs to another organization.
#[must_use]
pub fn no_such_project() -> Error {
    Error::not_found("There is no such project")
}

/// Locks the caller's organization and credential until the transaction ends. Returns the caller as
/// the database has it now, and the organization's plan. Changes of an organization's projects are
/// thereby serialized, so that the count and the free slugs stay valid.
///
/// # Errors
/// Unauthenticated or forbidden if the caller may no longer change projects.
async fn lock_and_confirm_caller(
    tx: &mut PgConnection,
    caller: &Caller,
    audit: &AuditContext,
) -> Result<(Arc<Caller>, Plan)> {
    let locked = organizations::lock(tx, caller.organization).await?;
    let caller = confirm_caller(tx, caller, audit).await?;
    caller.authorize(WRITE_SCOPE)?;
    let locked = locked.ok_or_else(|| Error::forbidden("This organization was deleted"))?;
    Ok((caller, locked.plan))
}

/// Returns the slug derived from the name, or a random one if the name yields none or the
/// organization, which is locked, already uses it.
async fn suggest_slug(
    app: &App,
    tx: &mut PgConnection,
    organization: OrganizationId,
    name: &ProjectName,
) -> Result<Slug> {
    let suggested = Slug::from_name(name);
    match suggested {
        Some(slug) if !projects::has_slug(tx, organization, &slug).await? => Ok(slug),
        taken => Ok(Slug::random(taken.as_ref(), &*app.entropy)),
    }
}
