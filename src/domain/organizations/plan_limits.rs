//! What a plan limits the number of: keys, projects and seats.
//!
//! Invariant: whoever makes one more holds the organization (`repo::organizations::hold`) from
//! before it is counted until the transaction ends, so that of many who want the last place one
//! gets it. What replaces something needs no room, what is there already stays when a limit is
//! lowered, and what the operator makes counts but is not refused.

use sqlx::PgConnection;

use crate::app::App;
use crate::error::{Error, ErrorKind, Result};
use crate::model::ids::OrganizationId;
use crate::model::plan::Plan;
use crate::repo::{keys, members, projects};

/// What a plan limits the number of.
#[derive(Clone, Copy, Debug)]
pub enum LimitedResource {
    /// Live keys, disabled ones included; not those that were rotated away, nor personal tokens.
    Keys,
    /// Projects.
    Projects,
    /// Seats that were not given up, claimed or not.
    Seats,
}

/// Passes an organization, which is held, with a plan that has room for one more.
///
/// # Errors
/// Plan limit.
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
    };
    let Some(limit) = limit else { return Ok(()) };
    let used = match limited {
        LimitedResource::Keys => keys::count(tx, organization).await?,
        LimitedResource::Projects => projects::count(tx, organization).await?,
        LimitedResource::Seats => members::count(tx, organization).await?,
    };
    if used < limit {
        return Ok(());
    }
    let message = format!("The plan allows {limit} {resource}, and there are {used}");
    Err(Error::new(ErrorKind::PlanLimit { resource, limit, used }, message))
}
