//! Organizations: create one beside an account's home organization; find, update, delete.

pub mod invites;
pub mod members;
pub mod plan_limits;
pub mod projects;
pub mod provisioning;
pub mod settings;
pub mod signup;
pub mod status;

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::{confirm_caller, record_caller_event};
use crate::domain::oauth::grant_revocation::record_app_end;
use crate::error::{Error, ErrorKind, Result};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::audit_detail::diff;
use crate::model::caller::{Caller, Person};
use crate::model::ids::{MembershipId, OrganizationId, SessionId, new_membership_handle, new_uuid};
use crate::model::member::NewMembership;
use crate::model::names::OrganizationName;
use crate::model::oauth::app_grant::GrantRevocationReason;
use crate::model::organization::{NewOrganization, Organization, OrganizationChanges};
use crate::model::organization_handle::OrganizationHandle;
use crate::model::role::{Permission, Role};
use crate::model::scope::BuiltInScope;
use crate::repo;
use crate::repo::{
    account_callers, accounts, app_grants, audit_events, memberships, oauth_apps, organizations,
    rls,
};

/// Creates an organization that the account owns.
///
/// # Errors
/// Conflict if the id is taken; unauthenticated if the session has ended meanwhile; e-mail not
/// verified if the account's address is not proven.
pub async fn create(
    app: &App,
    tx: &mut PgConnection,
    (person, session): (&Person, SessionId),
    (name, chosen): (&OrganizationName, Option<&OrganizationHandle>),
    audit: &AuditContext,
) -> Result<Organization> {
    // Locked first, so that an operation that deletes the account sees this organization, too.
    let account = accounts::lock(tx, person.account).await?;
    account_callers::lock_and_confirm_session(tx, None, session).await?;
    if !account.is_proven {
        let message = "Verify your e-mail address before you create another organization; \
                       POST /api/auth/send-verification-email mails the link";
        return Err(Error::new(ErrorKind::EmailNotVerified, message));
    }
    let organization = OrganizationId(new_uuid(audit.at, &*app.entropy));
    let handle = chosen.cloned().unwrap_or_else(|| OrganizationHandle::generate(&*app.entropy));
    let new = NewOrganization::on_trial(organization, &handle, name.as_str(), audit.at);
    let created = organizations::insert(tx, &new).await?;
    let user_handle = new_membership_handle(&*app.entropy);
    let membership = NewMembership {
        organization,
        id: MembershipId(new_uuid(audit.at, &*app.entropy)),
        handle: &user_handle,
        role: Role::Owner,
        account: Some(person.account),
        created_at: audit.at,
    };
    memberships::insert(tx, &membership).await?;
    let event = NewAuditEvent {
        organization,
        event_type: AuditEventType::OrganizationCreated,
        actor: &user_handle,
        target: handle.as_str(),
        key_display_id: None,
        detail: json!({}),
        audit,
    };
    audit_events::insert(tx, &event).await?;
    Ok(Organization { role: Some(Role::Owner), ..created })
}

/// Returns the organization as seen by a caller with this role.
///
/// # Errors
/// Not found if it was deleted.
pub async fn find(
    tx: &mut PgConnection,
    id: OrganizationId,
    role: Option<Role>,
) -> Result<Organization> {
    let organization = organizations::find(tx, id).await?;
    let organization =
        organization.ok_or_else(|| Error::not_found("There is no such organization"))?;
    Ok(Organization { role, ..organization })
}

/// Updates the organization's settings.
///
/// # Errors
/// Unauthenticated, forbidden, missing role.
pub async fn update(
    tx: &mut PgConnection,
    caller: &Caller,
    changes: &OrganizationChanges,
    audit: &AuditContext,
) -> Result<Organization> {
    organizations::lock(tx, caller.organization).await?;
    let caller = confirm_caller(tx, caller, audit).await?;
    caller.authorize(BuiltInScope::OrganizationWrite)?;
    let before = find(tx, caller.organization, caller.role).await?;
    organizations::update(tx, caller.organization, changes, audit.at).await?;
    let after = find(tx, caller.organization, caller.role).await?;
    let detail = diff(audited_fields(&before), audited_fields(&after));
    let (handle, event) = (&caller.organization_handle, AuditEventType::OrganizationUpdated);
    record_caller_event(tx, &caller, event, handle, detail, audit).await?;
    Ok(after)
}

/// Returns the fields that can be updated, as the audit log shows them.
fn audited_fields(it: &Organization) -> serde_json::Value {
    json!({
        "name": it.name,
        "allowed_origins": it.allowed_origins,
        "leak_policy": it.leak_policy.as_str(),
    })
}

/// Deletes the organization: its keys, memberships and invitations stop working immediately, and
/// every grant to its apps ends. Its id is never assigned again.
///
/// # Errors
/// Unauthenticated, forbidden, missing role: only an owner may delete it.
pub async fn delete(tx: &mut PgConnection, caller: &Caller, audit: &AuditContext) -> Result<()> {
    organizations::lock(tx, caller.organization).await?;
    let caller = confirm_caller(tx, caller, audit).await?;
    caller.require_role(Permission::DELETE_ORGANIZATION.minimum_role())?;
    let organization = caller.organization;
    repo::invites::revoke_all(tx, organization, audit.at).await?;
    organizations::delete(tx, organization, audit.at).await?;
    // Grants of other organizations end, too, and row-level security would hide them.
    rls::clear_tenant(tx).await?;
    let reason = GrantRevocationReason::AppDeleted;
    let apps = oauth_apps::lock_all(tx, organization).await?;
    let ended = app_grants::end_all(tx, &apps, reason, audit.at).await?;
    let event = NewAuditEvent {
        organization,
        event_type: AuditEventType::OrganizationDeleted,
        actor: &caller.actor(),
        target: &caller.organization_handle,
        key_display_id: caller.credential.key().map(|key| key.display_id.as_str()),
        detail: json!({}),
        audit,
    };
    record_app_end(tx, event, reason, &ended).await?;
    rls::set_tenant(tx, organization).await
}
