//! `tenantry org …`: some operations of the operator API, as commands.

use crate::app::App;
use crate::commands::setup::{load_config, with_app};
use crate::commands::{Failure, print};
use crate::domain::organizations::provisioning::{self, OrganizationSpec};
use crate::domain::organizations::status;
use crate::error::Result;
use crate::model::ValidationError;
use crate::model::audit::AuditContext;
use crate::model::external_actor::ExternalActor;
use crate::model::ids::new_request_id;
use crate::model::leak::LeakPolicy;
use crate::model::names::OrganizationName;
use crate::model::organization::{BusinessDomain, OrganizationSettings};
use crate::model::organization_handle::OrganizationHandle;
use crate::model::origin::parse_comma_separated_origins;
use crate::model::plan::Plan;
use crate::model::timestamp;

/// The actor of these commands in the audit log.
const ACTOR: ExternalActor = ExternalActor::Command;

/// The arguments of `tenantry org create`, before they are parsed.
pub struct CreateOrganizationArguments<'a> {
    /// The organization's id.
    pub org_id: &'a str,
    /// The organization's name; `None` uses its id.
    pub name: Option<&'a str>,
    /// The organization's business domain.
    pub domain: &'a str,
    /// The organization's plan.
    pub tier: &'a str,
    /// The browser origins that may use its keys, separated by commas; `None` allows every origin.
    pub allowed_origins: Option<&'a str>,
    /// What is done with its keys that are reported as leaked.
    pub leak_policy: &'a str,
}

/// Creates an organization and prints its first key. The key cannot be shown again.
///
/// # Errors
/// An argument is invalid (the error lists all of them), or another organization has this id.
pub fn create(arguments: &CreateOrganizationArguments<'_>) -> Result<(), Failure> {
    let spec = parse_arguments(arguments)?;
    let created_key = with_app(load_config()?, async |app| {
        let audit = audit_context(app, "org create");
        let created = app
            .db
            .transaction(async |tx| provisioning::provision(app, tx, &spec, ACTOR, &audit).await);
        Ok(created.await?)
    })?;
    let key = created_key.secret.expose();
    print(&format!("created {}; its key is shown only once:\n{key}\n", spec.handle.as_str()))
}

fn parse_arguments(
    arguments: &CreateOrganizationArguments<'_>,
) -> Result<OrganizationSpec, Failure> {
    let mut problems = Vec::new();
    let mut add_problem = |field: &str, ValidationError(message): ValidationError| {
        problems.push(format!("{field} {message}"));
    };
    let handle = OrganizationHandle::parse(arguments.org_id)
        .map_err(|message| add_problem("org_id", message))
        .ok();
    let name = OrganizationName::parse(arguments.name.unwrap_or(arguments.org_id));
    let name = name.map_err(|message| add_problem("--name", message)).ok();
    let domain = BusinessDomain::ALL.into_iter().find(|(_, name)| *name == arguments.domain);
    let plan = Plan::parse(arguments.tier);
    let origins = arguments.allowed_origins.map(parse_comma_separated_origins).transpose();
    let origins = origins.map_err(|message| add_problem("--allowed-origins", message)).ok();
    match (handle, name, plan, origins) {
        (Some(handle), Some(name), Some(plan), Some(origins)) => Ok(OrganizationSpec {
            handle,
            name,
            domain: domain.map(|(domain, _)| domain),
            plan,
            allowed_origins: origins.unwrap_or_default(),
            settings: OrganizationSettings::default(),
            leak_policy: LeakPolicy::parse(arguments.leak_policy).unwrap_or_default(),
        }),
        _ => Err(Failure::Message(problems.join("\n  "))),
    }
}

/// Suspends an organization. Its credentials are rejected until it is reactivated.
///
/// # Errors
/// The organization does not exist.
pub fn suspend(org_id: &str) -> Result<(), Failure> {
    let handle = parse_handle(org_id)?;
    let (status, since) = with_app(load_config()?, async |app| {
        let audit = audit_context(app, "org suspend");
        Ok(app.db.transaction(async |tx| status::suspend(tx, &handle, ACTOR, &audit).await).await?)
    })?;
    print(&format!("{} has been suspended since {}\n", status.handle, timestamp::format(since)))
}

/// Reactivates an organization.
///
/// # Errors
/// The organization does not exist.
pub fn reactivate(org_id: &str) -> Result<(), Failure> {
    let handle = parse_handle(org_id)?;
    let status = with_app(load_config()?, async |app| {
        let audit = audit_context(app, "org reactivate");
        let reactivated =
            app.db.transaction(async |tx| status::reactivate(tx, &handle, ACTOR, &audit).await);
        Ok(reactivated.await?)
    })?;
    print(&format!("{} is active\n", status.handle))
}

/// Revokes every key of an organization and prints a new one, which cannot be shown again. Also
/// prints the memberships whose accounts were invited by a key.
///
/// # Errors
/// The organization does not exist.
pub fn rotate(org_id: &str) -> Result<(), Failure> {
    let handle = parse_handle(org_id)?;
    let rotated = with_app(load_config()?, async |app| {
        let audit = audit_context(app, "org rotate");
        let rotated = app.db.transaction(async |tx| {
            provisioning::force_rotate(app, tx, &handle, ACTOR, &audit).await
        });
        Ok(rotated.await?)
    })?;
    let key = rotated.created_key.secret.expose();
    let memberships = rotated.memberships.iter();
    let memberships: Vec<_> = memberships
        .map(|it| format!("{} ({}) was invited by a key\n", it.handle, it.role.as_str()))
        .collect();
    let memberships = memberships.concat();
    print(&format!(
        "{memberships}every key of {org_id} is revoked; the new one is shown only once:\n{key}\n"
    ))
}

fn parse_handle(org_id: &str) -> Result<OrganizationHandle, Failure> {
    OrganizationHandle::parse(org_id)
        .map_err(|_| Failure::Message("no such organization".to_owned()))
}

fn audit_context(app: &App, command: &str) -> AuditContext {
    let request_id = new_request_id(&*app.entropy);
    AuditContext::for_command(command, request_id, app.clock.now(), app.audit_signer.clone())
}
