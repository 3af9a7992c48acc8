//! Revocation of grants: by the person, by the organization, or because the client ended. From the
//! commit on, every token of the grant is rejected.

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::domain::accounts::events::record_account_event;
use crate::domain::keys::record_caller_event;
use crate::domain::oauth::locks::lock_and_confirm_caller;
use crate::error::{Error, Result};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::caller::{Caller, Person};
use crate::model::ids::{GrantId, SessionId};
use crate::model::oauth::app_grant::{EndedGrants, GrantRevocationReason, RevokedGrant};
use crate::model::scope::BuiltInScope;
use crate::repo::{account_callers, accounts, app_grants, audit_events};

/// The number of audit events that are linked into their chains at a time.
const LINK_BATCH: usize = 100;

/// Revokes a grant in the caller's organization. A revoked grant is not changed.
///
/// # Errors
/// Not found; unauthenticated or forbidden if the caller may no longer do this.
pub async fn revoke(
    tx: &mut PgConnection,
    caller: &Caller,
    id: GrantId,
    audit: &AuditContext,
) -> Result<()> {
    let caller = lock_and_confirm_caller(tx, caller, BuiltInScope::MembersWrite, audit).await?;
    let organization = caller.organization;
    if let Some(grant) = app_grants::revoke(tx, organization, id, audit.at).await? {
        return record_revoked(tx, &caller, &[grant], GrantRevocationReason::Organization, audit)
            .await;
    }
    if app_grants::exists(tx, organization, id).await? { Ok(()) } else { Err(no_such_grant()) }
}

/// Revokes all grants of a client in the caller's organization, and returns their number.
///
/// # Errors
/// Unauthenticated or forbidden if the caller may no longer do this.
pub async fn revoke_of_client(
    tx: &mut PgConnection,
    caller: &Caller,
    client_id: &str,
    audit: &AuditContext,
) -> Result<usize> {
    let caller = lock_and_confirm_caller(tx, caller, BuiltInScope::MembersWrite, audit).await?;
    let revoked =
        app_grants::revoke_of_client(tx, caller.organization, client_id, audit.at).await?;
    record_revoked(tx, &caller, &revoked, GrantRevocationReason::Organization, audit).await?;
    Ok(revoked.len())
}

/// Revokes a grant of the person, in any organization. A revoked grant is not changed.
///
/// # Errors
/// Not found; unauthenticated if the session has ended meanwhile.
pub async fn revoke_own(
    tx: &mut PgConnection,
    (person, session): (&Person, SessionId),
    id: GrantId,
    audit: &AuditContext,
) -> Result<()> {
    let account = person.account;
    accounts::lock(tx, account).await?;
    account_callers::lock_and_confirm_session(tx, None, session).await?;
    let Some(grant) = app_grants::revoke_of_account(tx, person.reach(), id, audit.at).await? else {
        let exists = app_grants::exists_of_account(tx, person.reach(), id).await?;
        return if exists { Ok(()) } else { Err(no_such_grant()) };
    };
    let (event_type, target) = (AuditEventType::AppGrantRevoked, id.to_string());
    let detail = detail_of(&grant, GrantRevocationReason::Person);
    let Some(organization) = grant.organization else {
        return record_account_event(tx, account, event_type, &target, detail, audit).await;
    };
    let event = NewAuditEvent {
        organization,
        event_type,
        actor: &account.to_string(),
        target: &target,
        key_display_id: None,
        detail,
        audit,
    };
    audit_events::insert(tx, &event).await
}

/// Records grants that the caller's organization revoked, one event for each.
pub(super) async fn record_revoked(
    tx: &mut PgConnection,
    caller: &Caller,
    grants: &[RevokedGrant],
    reason: GrantRevocationReason,
    audit: &AuditContext,
) -> Result<()> {
    for (number, grant) in grants.iter().enumerate() {
        if number > 0 && number.is_multiple_of(LINK_BATCH) {
            audit_events::link_inserted(tx).await?;
        }
        let (event_type, detail) = (AuditEventType::AppGrantRevoked, detail_of(grant, reason));
        record_caller_event(tx, caller, event_type, grant.id, detail, audit).await?;
    }
    Ok(())
}

fn detail_of(grant: &RevokedGrant, reason: GrantRevocationReason) -> Value {
    json!({
        "client_id": grant.client_id,
        "client": grant.client_name,
        "account": grant.account.to_string(),
        "reason": reason.as_str(),
    })
}

/// Records that apps ended, and in the audit log of each organization how many of its grants ended
/// with them. `event` is the event of the apps' own organization. In the event of another
/// organization, the app is the actor, because that organization must not learn who ended it.
pub(in crate::domain) async fn record_app_end(
    tx: &mut PgConnection,
    event: NewAuditEvent<'_>,
    reason: GrantRevocationReason,
    ended: &[EndedGrants],
) -> Result<()> {
    let apps: Vec<String> = ended.iter().map(|ended| ended.app.to_string()).collect();
    let of_grants = ended.iter().zip(&apps).map(|(ended, app)| {
        let is_own = ended.organization == event.organization;
        NewAuditEvent {
            organization: ended.organization,
            event_type: AuditEventType::AppGrantRevoked,
            actor: if is_own { event.actor } else { app },
            target: app,
            key_display_id: event.key_display_id.filter(|_| is_own),
            detail: ended.detail(reason),
            audit: event.audit,
        }
    });
    let events = std::iter::once(event.clone()).chain(of_grants).collect();
    audit_events::insert_all(tx, events).await
}

/// Returns the error for a grant that does not exist or belongs to others.
#[must_use]
pub fn no_such_grant() -> Error {
    Error::not_found("There is no such grant")
}
