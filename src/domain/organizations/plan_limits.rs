//! Plan limits: the numbers of keys, projects, memberships (*seats*) and apps that a plan allows.
//!
//! Invariant: an operation that creates one of these locks the organization
//! (`repo::organizations::lock`) before it counts and until its transaction ends, so that
//! concurrent operations cannot exceed the limit together. A replacement (a rotated key, for
//! example) is not checked, existing resources stay when a limit is lowered, and what the operator
//! creates counts but is not limited.

use sqlx::PgConnection;

use crate::app::App;
use crate::error::{Error, ErrorKind, Result};
use crate::model::ids::OrganizationId;
use crate::model::plan::Plan;
use crate::repo::{keys, members, oauth_apps, projects};

/// A resource whose number a plan limits.
#[derive(Clone, Copy, Debug)]
pub enum LimitedResource {
    /// Live keys, disabled ones included; not rotated keys in their grace period, nor personal
    /// access tokens.
    Keys,
    /// Projects.
    Projects,
    /// Memberships that were not removed, claimed or not.
    Seats,
    /// Apps, disabled ones included.
    Apps,
}

/// Checks that the plan of an organization, which is locked, allows one more of a resource.
///
/// # Errors
/// [`ErrorKind::PlanLimit`], with the limit and the number in use.
pub async fn check_plan_limit(
    app: &App,
    tx: &mut PgConnection,
    (organization, plan): (OrganizationId, Plan),
    limited: LimitedResource,
) -> Result<()> {
    let limits = app.config.plans.of(plan);
    let (resource, limit) = match limited {
        LimitedResource::Keys => ("keys", limits.keys),
        LimitedResource::Projects => ("projects", limits.projects),
        LimitedResource::Seats => ("seats", limits.seats),
        LimitedResource::Apps => ("apps", limits.apps),
    };
    let Some(limit) = limit else { return Ok(()) };
    let used = match limited {
        LimitedResource::Keys => keys::count(tx, organization).await?,
        LimitedResource::Projects => projects::count(tx, organization).await?,
        LimitedResource::Seats => members::count(tx, organization).await?,
        LimitedResource::Apps => oauth_apps::count(tx, organization).await?,
    };
    if used < limit {
        return Ok(());
    }
    let message = format!("The plan allows {limit} {resource}, and {used} are in use");
    Err(Error::new(ErrorKind::PlanLimit { resource, limit, used }, message))
}
