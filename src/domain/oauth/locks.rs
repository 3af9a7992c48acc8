//! What every change of apps, policies and grants locks first.

use std::sync::Arc;

use sqlx::PgConnection;

use crate::domain::keys::confirm_caller;
use crate::error::{Error, Result};
use crate::model::audit::AuditContext;
use crate::model::caller::Caller;
use crate::model::ids::{AppId, OrganizationId};
use crate::model::oauth::app::OauthApp;
use crate::model::scope::BuiltInScope;
use crate::repo::{oauth_apps, organizations};

/// Locks the caller's organization and credential until the transaction ends. Returns the caller as
/// the database has it now.
///
/// # Errors
/// Unauthenticated or forbidden if the caller no longer has the scope and its role.
pub(super) async fn lock_and_confirm_caller(
    tx: &mut PgConnection,
    caller: &Caller,
    scope: BuiltInScope,
    audit: &AuditContext,
) -> Result<Arc<Caller>> {
    let locked = organizations::lock(tx, caller.organization).await?;
    let caller = confirm_caller(tx, caller, audit).await?;
    caller.authorize(scope)?;
    locked.ok_or_else(|| Error::forbidden("This organization was deleted"))?;
    Ok(caller)
}

/// Locks an app of the organization until the transaction ends, and returns it without its secrets
/// and grants.
///
/// # Errors
/// Not found if there is no such app.
pub(super) async fn lock_app(
    tx: &mut PgConnection,
    organization: OrganizationId,
    id: AppId,
) -> Result<OauthApp> {
    oauth_apps::lock(tx, organization, id).await?;
    oauth_apps::find(tx, organization, id).await?.ok_or_else(no_such_app)
}

/// Returns the error for an app that does not exist or belongs to another organization.
#[must_use]
pub fn no_such_app() -> Error {
    Error::not_found("There is no such app")
}
