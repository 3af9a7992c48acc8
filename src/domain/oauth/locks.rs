//! What every change of apps, policies, grants and single sign-on locks first.

use std::sync::Arc;

use sqlx::PgConnection;

use crate::domain::keys::confirm_caller;
use crate::error::{Error, Result};
use crate::model::audit::AuditContext;
use crate::model::caller::Caller;
use crate::model::ids::{AppId, OrganizationId};
use crate::model::oauth::app::OauthApp;
use crate::model::plan::Plan;
use crate::model::scope::BuiltInScope;
use crate::repo::{oauth_apps, organizations};

/// Locks the caller's organization and credential until the transaction ends. Returns the caller as
/// the database has it now.
///
/// # Errors
/// Unauthenticated if the credential has ended; forbidden if its scopes or role no longer suffice.
pub(in crate::domain) async fn lock_and_confirm_caller(
    tx: &mut PgConnection,
    caller: &Caller,
    scope: BuiltInScope,
    audit: &AuditContext,
) -> Result<Arc<Caller>> {
    Ok(lock_with_plan(tx, caller, scope, audit).await?.0)
}

/// Does the same as [`lock_and_confirm_caller`], and returns the organization's plan, too.
pub(super) async fn lock_with_plan(
    tx: &mut PgConnection,
    caller: &Caller,
    scope: BuiltInScope,
    audit: &AuditContext,
) -> Result<(Arc<Caller>, Plan)> {
    let locked = organizations::lock(tx, caller.organization).await?;
    let caller = confirm_caller(tx, caller, audit).await?;
    caller.authorize(scope)?;
    let locked = locked.ok_or_else(|| Error::forbidden("This organization was deleted"))?;
    Ok((caller, locked.plan))
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
