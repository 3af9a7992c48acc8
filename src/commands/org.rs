//! `tenantry org …`: what the operator's routes do, for who sits at the machine.

use crate::app::App;
use crate::commands::migrate::{configuration, with_app};
use crate::commands::{Failure, say};
use crate::domain::provisioning::{self, Order};
use crate::domain::standing;
use crate::error::Result;
use crate::model::Invalid;
use crate::model::audit::Trail;
use crate::model::ids::new_request_id;
use crate::model::moment;
use crate::model::org_handle::OrgHandle;
use crate::model::organization::{Domain, OrganizationName};
use crate::model::origin::parse_listed;
use crate::model::plan::Plan;

/// Who did it, for the trail.
const BY: &str = "command";

/// An organization to be, as it was typed.
pub struct Typed<'a> {
    /// Its id.
    pub org_id: &'a str,
    /// What it is called; its id, where that is left out.
    pub name: Option<&'a str>,
    /// Its line of business.
    pub domain: &'a str,
    /// What it pays for.
    pub tier: &'a str,
    /// Whose pages' scripts may use its keys, separated by commas; anybody's, where left out.
    pub allowed_origins: Option<&'a str>,
}

/// Makes an organization, and prints its first key: the only time it is shown.
///
/// # Errors
/// Everything that is wrong with what was typed; an id that is taken.
pub fn create(typed: &Typed<'_>) -> Result<(), Failure> {
    let order = order(typed)?;
    let minted = with_app(configuration()?, async |app| {
        let trail = trail(app, "org create");
        let made = app
            .db
            .transaction(async |tx| provisioning::provision(app, tx, &order, BY, &trail).await);
        Ok(made.await?)
    })?;
    let key = minted.secret.expose();
    say(&format!("made {}; its key is shown once:\n{key}\n", order.handle.as_str()))
}

fn order(typed: &Typed<'_>) -> Result<Order, Failure> {
    let mut problems = Vec::new();
    let mut note = |field: &str, Invalid(why): Invalid| problems.push(format!("{field} {why}"));
    let handle = OrgHandle::parse(typed.org_id).map_err(|why| note("org_id", why)).ok();
    let name = OrganizationName::parse(typed.name.unwrap_or(typed.org_id));
    let name = name.map_err(|why| note("--name", why)).ok();
    let domain = Domain::ALL.into_iter().find(|(_, word)| *word == typed.domain);
    let plan = Plan::parse(typed.tier);
    let origins = typed.allowed_origins.map(parse_listed).transpose();
    let origins = origins.map_err(|why| note("--allowed-origins", why)).ok();
    match (handle, name, plan, origins) {
        (Some(handle), Some(name), Some(plan), Some(origins)) => Ok(Order {
            handle,
            name,
            domain: domain.map(|(domain, _)| domain),
            plan,
            allowed_origins: origins.unwrap_or_default(),
        }),
        _ => Err(Failure::Refused(problems.join("\n  "))),
    }
}

/// Suspends an organization: its credentials are refused until it is reactivated.
///
/// # Errors
/// Not found.
pub fn suspend(org_id: &str) -> Result<(), Failure> {
    let handle = handle(org_id)?;
    let (standing, since) = with_app(configuration()?, async |app| {
        let trail = trail(app, "org suspend");
        Ok(app.db.transaction(async |tx| standing::suspend(tx, &handle, BY, &trail).await).await?)
    })?;
    say(&format!("{} is suspended since {}\n", standing.handle, moment::to_text(since)))
}

/// Reactivates an organization.
///
/// # Errors
/// Not found.
pub fn reactivate(org_id: &str) -> Result<(), Failure> {
    let handle = handle(org_id)?;
    let standing = with_app(configuration()?, async |app| {
        let trail = trail(app, "org reactivate");
        let done =
            app.db.transaction(async |tx| standing::reactivate(tx, &handle, BY, &trail).await);
        Ok(done.await?)
    })?;
    say(&format!("{} is active\n", standing.handle))
}

/// Ends every key of an organization, and prints a new one: the only time it is shown. Before it,
/// the memberships that began by invitations of its keys.
///
/// # Errors
/// Not found.
pub fn rotate(org_id: &str) -> Result<(), Failure> {
    let handle = handle(org_id)?;
    let rotated = with_app(configuration()?, async |app| {
        let trail = trail(app, "org rotate");
        let done = app
            .db
            .transaction(async |tx| provisioning::force_rotate(app, tx, &handle, BY, &trail).await);
        Ok(done.await?)
    })?;
    let key = rotated.minted.secret.expose();
    let joined = rotated.memberships.iter();
    let joined: Vec<_> = joined
        .map(|it| format!("{} ({}) joined by a key\n", it.handle, it.role.as_str()))
        .collect();
    let joined = joined.concat();
    say(&format!("{joined}every key of {org_id} has ended; its new one is shown once:\n{key}\n"))
}

fn handle(org_id: &str) -> Result<OrgHandle, Failure> {
    OrgHandle::parse(org_id)
        .map_err(|_| Failure::Refused("There is no such organization".to_owned()))
}

fn trail(app: &App, name: &str) -> Trail {
    let request_id = new_request_id(&*app.entropy);
    Trail::of_command(name, request_id, app.clock.now(), app.audit_signer.clone())
}
