//! `tenantry org …`: what the operator's routes do, for who sits at the machine.

use crate::app::App;
use crate::commands::migrate::{load_config, with_app};
use crate::commands::{Failure, print};
use crate::domain::organizations::provisioning::{self, OrganizationSpec};
use crate::domain::organizations::status;
use crate::error::Result;
use crate::model::ValidationError;
use crate::model::audit::AuditContext;
use crate::model::ids::new_request_id;
use crate::model::org_handle::OrgHandle;
use crate::model::organization::{BusinessDomain, OrganizationName};
use crate::model::origin::parse_comma_separated_origins;
use crate::model::plan::Plan;
use crate::model::timestamp;

/// The actor for the audit log.
const ACTOR: &str = "command";

/// An organization to be, as it was typed.
pub struct CreateOrganizationArguments<'a> {
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

/// Creates an organization, and prints its first key, which is shown only this once.
///
/// # Errors
/// Every invalid argument; an id that is taken.
pub fn create(typed: &CreateOrganizationArguments<'_>) -> Result<(), Failure> {
    let order = parse_arguments(typed)?;
    let minted = with_app(load_config()?, async |app| {
        let audit = audit_context(app, "org create");
        let created = app
            .db
            .transaction(async |tx| provisioning::provision(app, tx, &order, ACTOR, &audit).await);
        Ok(created.await?)
    })?;
    let key = minted.secret.expose();
    print(&format!("created {}; its key is shown only this once:\n{key}\n", order.handle.as_str()))
}

fn parse_arguments(typed: &CreateOrganizationArguments<'_>) -> Result<OrganizationSpec, Failure> {
    let mut problems = Vec::new();
    let mut add_problem = |field: &str, ValidationError(why): ValidationError| {
        problems.push(format!("{field} {why}"));
    };
    let handle = OrgHandle::parse(typed.org_id).map_err(|why| add_problem("org_id", why)).ok();
    let name = OrganizationName::parse(typed.name.unwrap_or(typed.org_id));
    let name = name.map_err(|why| add_problem("--name", why)).ok();
    let domain = BusinessDomain::ALL.into_iter().find(|(_, word)| *word == typed.domain);
    let plan = Plan::parse(typed.tier);
    let origins = typed.allowed_origins.map(parse_comma_separated_origins).transpose();
    let origins = origins.map_err(|why| add_problem("--allowed-origins", why)).ok();
    match (handle, name, plan, origins) {
        (Some(handle), Some(name), Some(plan), Some(origins)) => Ok(OrganizationSpec {
            handle,
            name,
            domain: domain.map(|(domain, _)| domain),
            plan,
            allowed_origins: origins.unwrap_or_default(),
        }),
        _ => Err(Failure::Message(problems.join("\n  "))),
    }
}

/// Suspends an organization: its credentials are refused until it is reactivated.
///
/// # Errors
/// Not found.
pub fn suspend(org_id: &str) -> Result<(), Failure> {
    let handle = handle(org_id)?;
    let (standing, since) = with_app(load_config()?, async |app| {
        let audit = audit_context(app, "org suspend");
        Ok(app.db.transaction(async |tx| status::suspend(tx, &handle, ACTOR, &audit).await).await?)
    })?;
    print(&format!("{} is suspended since {}\n", standing.handle, timestamp::format(since)))
}

/// Reactivates an organization.
///
/// # Errors
/// Not found.
pub fn reactivate(org_id: &str) -> Result<(), Failure> {
    let handle = handle(org_id)?;
    let standing = with_app(load_config()?, async |app| {
        let audit = audit_context(app, "org reactivate");
        let done =
            app.db.transaction(async |tx| status::reactivate(tx, &handle, ACTOR, &audit).await);
        Ok(done.await?)
    })?;
    print(&format!("{} is active\n", standing.handle))
}

/// Revokes every key of an organization, and prints a new one, which is shown only this once, and
/// before it the memberships that began with invitations of the revoked keys.
///
/// # Errors
/// Not found.
pub fn rotate(org_id: &str) -> Result<(), Failure> {
    let handle = handle(org_id)?;
    let rotated = with_app(load_config()?, async |app| {
        let audit = audit_context(app, "org rotate");
        let done = app.db.transaction(async |tx| {
            provisioning::force_rotate(app, tx, &handle, ACTOR, &audit).await
        });
        Ok(done.await?)
    })?;
    let key = rotated.minted.secret.expose();
    let joined = rotated.memberships.iter();
    let joined: Vec<_> = joined
        .map(|it| format!("{} ({}) joined by a key\n", it.handle, it.role.as_str()))
        .collect();
    let joined = joined.concat();
    print(&format!(
        "{joined}every key of {org_id} is revoked; the new one is shown only this once:\n{key}\n"
    ))
}

fn handle(org_id: &str) -> Result<OrgHandle, Failure> {
    OrgHandle::parse(org_id)
        .map_err(|_| Failure::Message("There is no such organization".to_owned()))
}

fn audit_context(app: &App, name: &str) -> AuditContext {
    let request_id = new_request_id(&*app.entropy);
    AuditContext::for_command(name, request_id, app.clock.now(), app.audit_signer.clone())
}
