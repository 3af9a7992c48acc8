//! Projects of an organization.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::ids::{OrganizationId, ProjectId};
use crate::model::names::ProjectName;
use crate::model::project::{Description, NewProject, Project, ProjectChanges, Slug};
use crate::repo::MapConstraintViolations;

const SLUG_TAKEN: (&str, &str) =
    ("projects_organization_id_slug_key", "Another project of the organization has this slug");

struct Row {
    id: Uuid,
    name: String,
    slug: String,
    description: Option<String>,
    created_by: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Row> for Project {
    fn from(row: Row) -> Self {
        Self {
            id: ProjectId::from_uuid(row.id),
            name: row.name,
            slug: row.slug,
            description: row.description,
            created_by: row.created_by,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Inserts a project and returns it.
///
/// # Errors
/// Conflict if another project of the organization has the slug.
pub async fn insert(db: &mut PgConnection, project: &NewProject<'_>) -> Result<Project> {
    let row = sqlx::query_as!(
        Row,
        r#"insert into projects (id, organization_id, name, slug, description, created_by,
                               created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $7)
         returning id, name, slug, description,
                   (select handle from users
                    where organization_id = projects.organization_id and id = created_by)
                       as "created_by!",
                   created_at, updated_at"#,
        project.id.uuid(),
        project.organization.0,
        project.name.as_str(),
        project.slug.as_str(),
        project.description.map(Description::as_str),
        project.created_by.0,
        project.created_at,
    )
    .fetch_one(db)
    .await
    .map_constraint_violations(&[SLUG_TAKEN])?;
    Ok(row.into())
}

/// Returns a page of the organization's projects whose names or slugs contain `search`, newest
/// first, and their total count.
pub async fn list(
    db: &mut PgConnection,
    organization: OrganizationId,
    search: Option<&str>,
    (offset, limit): (i64, i64),
) -> Result<(Vec<Project>, i64)> {
    let rows = sqlx::query_as!(
        Row,
        "select p.id, p.name, p.slug, p.description, u.handle as created_by, p.created_at,
                p.updated_at
         from projects p
         join users u on u.organization_id = p.organization_id and u.id = p.created_by
         where p.organization_id = $1
           and ($2::text is null or strpos(lower(p.name), lower($2)) > 0
                or strpos(p.slug, lower($2)) > 0)
         order by p.id desc offset $3 limit $4",
        organization.0,
        search,
        offset,
        limit,
    )
    .fetch_all(&mut *db)
    .await?;
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!" from projects
           where organization_id = $1
             and ($2::text is null or strpos(lower(name), lower($2)) > 0
                  or strpos(slug, lower($2)) > 0)"#,
        organization.0,
        search,
    )
    .fetch_one(db)
    .await?;
    Ok((rows.into_iter().map(Project::from).collect(), total))
}

/// Returns a project of the organization, if it exists.
pub async fn find(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: ProjectId,
) -> Result<Option<Project>> {
    let row = sqlx::query_as!(
        Row,
        "select p.id, p.name, p.slug, p.description, u.handle as created_by, p.created_at,
                p.updated_at
         from projects p
         join users u on u.organization_id = p.organization_id and u.id = p.created_by
         where p.id = $2 and (p.organization_id = $1) is true",
        organization.0,
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(Project::from))
}

/// Returns whether a project of the organization has the slug.
pub async fn has_slug(
    db: &mut PgConnection,
    organization: OrganizationId,
    slug: &Slug,
) -> Result<bool> {
    let exists = sqlx::query_scalar!(
        r#"select exists (select from projects where organization_id = $1 and slug = $2)
               as "exists!""#,
        organization.0,
        slug.as_str(),
    )
    .fetch_one(db)
    .await?;
    Ok(exists)
}

/// Returns the number of the organization's projects.
pub async fn count(db: &mut PgConnection, organization: OrganizationId) -> Result<u64> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from projects where organization_id = $1"#,
        organization.0,
    )
    .fetch_one(db)
    .await?;
    u64::try_from(count).map_err(Error::internal)
}

/// Updates the given fields of a project and returns it; `None` if it does not exist.
///
/// # Errors
/// Conflict if another project of the organization has the slug.
pub async fn update(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: ProjectId,
    changes: &ProjectChanges,
    at: DateTime<Utc>,
) -> Result<Option<Project>> {
    let description = changes.description.as_ref();
    let row = sqlx::query_as!(
        Row,
        r#"update projects
         set name = coalesce($3, name), slug = coalesce($4, slug),
             description = case when $5 then $6 else description end, updated_at = $7
         where id = $2 and (organization_id = $1) is true
         returning id, name, slug, description,
                   (select handle from users
                    where organization_id = projects.organization_id and id = created_by)
                       as "created_by!",
                   created_at, updated_at"#,
        organization.0,
        id.uuid(),
        changes.name.as_ref().map(ProjectName::as_str),
        changes.slug.as_ref().map(Slug::as_str),
        description.is_some(),
        description.and_then(|it| it.as_ref()).map(Description::as_str),
        at,
    )
    .fetch_optional(db)
    .await
    .map_constraint_violations(&[SLUG_TAKEN])?;
    Ok(row.map(Project::from))
}

/// Deletes a project; returns whether it existed.
pub async fn delete(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: ProjectId,
) -> Result<bool> {
    let result = sqlx::query!(
        "delete from projects where id = $2 and (organization_id = $1) is true",
        organization.0,
        id.uuid(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}
