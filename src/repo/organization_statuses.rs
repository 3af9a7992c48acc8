//! The statuses of organizations: their plans and whether they are suspended.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::error::Result;
use crate::model::external_actor::ExternalActor;
use crate::model::ids::OrganizationId;
use crate::model::organization::OrganizationStatus;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::plan::Plan;

/// Locks the organization with this handle, ignoring case, until the transaction ends, and returns
/// its status: see the invariant of [`super::organizations::lock`]. `None` if it does not exist or
/// was deleted.
pub async fn lock(
    db: &mut PgConnection,
    handle: &OrganizationHandle,
) -> Result<Option<OrganizationStatus>> {
    let row = sqlx::query!(
        r#"select o.id, o.handle, o.plan, o.suspended_at, o.suspended_by,
                  exists (select from accounts a where a.home_organization_id = o.id
                            and a.deleted_at is null) as "is_home!"
           from organizations o
           where lower(o.handle collate "C") = lower($1 collate "C") and o.deleted_at is null
           for no key update"#,
        handle.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(|row| {
        Some(OrganizationStatus {
            id: OrganizationId(row.id),
            handle: row.handle,
            plan: Plan::parse(&row.plan)?,
            suspended_at: row.suspended_at,
            suspended_by: row.suspended_by.as_deref().and_then(ExternalActor::from_stored),
            is_home_organization: row.is_home,
        })
    }))
}

/// Suspends the organization, with the time and the actor; `None` reactivates it.
pub async fn set_suspended(
    db: &mut PgConnection,
    id: OrganizationId,
    suspended: Option<(DateTime<Utc>, ExternalActor)>,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update organizations set suspended_at = $2, suspended_by = $3, updated_at = $4
         where id = $1 and deleted_at is null",
        id.0,
        suspended.map(|(time, _)| time),
        suspended.map(|(_, actor)| actor.as_str()),
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Sets the organization's plan.
pub async fn set_plan(
    db: &mut PgConnection,
    id: OrganizationId,
    plan: Plan,
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update organizations set plan = $2, updated_at = $3
         where id = $1 and deleted_at is null",
        id.0,
        plan.as_str(),
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}
