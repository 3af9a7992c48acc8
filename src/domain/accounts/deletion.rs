//! Deletion of an account, and of the organizations in which it is the only member.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::accounts::verified_password::VerifiedPassword;
use crate::error::{Error, ErrorKind, Result};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::caller::Person;
use crate::model::ids::{AccountId, OrganizationId};
use crate::model::oauth::app_grant::GrantRevocationReason;
use crate::repo;
use crate::repo::memberships::Membership;
use crate::repo::{
    accounts, app_grants, audit_events, email_tokens, idempotency_keys, invites, mails,
    memberships, oauth_apps, oauth_grants, organizations, sso_identities,
};

/// Deletes an account, its sessions and its tokens. Removes its memberships, and revokes the
/// invitations that they created. Organizations without another member are deleted. The address can
/// be used to sign up again, and no personal data is left outside the audit log.
///
/// # Errors
/// Conflict if the account is the last owner of an organization with other members; suspended if an
/// organization without other members is; unauthenticated if the password was changed meanwhile.
pub async fn delete(
    app: &App,
    person: &Person,
    verified: &VerifiedPassword,
    audit: &AuditContext,
) -> Result<()> {
    app.db
        .transaction(async |tx| {
            let account = verified.lock_account(tx).await?;
            let memberships = memberships::lock_of_account(tx, person.account).await?;
            if memberships.iter().any(|membership| membership.is_last_owner) {
                let message = "You are the last owner of an organization that has other members";
                return Err(Error::conflict(message));
            }
            // A suspended organization is kept until the operator has decided about it.
            if memberships.iter().any(|membership| !membership.is_shared && membership.is_suspended)
            {
                let message = "An organization in which you are the only member is suspended";
                return Err(Error::new(ErrorKind::OrganizationSuspended, message));
            }
            remove_personal_data(tx, person, &account.email).await?;
            let home = accounts::find_audit_organization(tx, person.account).await?;
            let mut events = vec![event_of_account(person.account, home)];
            for membership in &memberships {
                events.extend(leave_organization(tx, membership, audit).await?);
            }
            // After the loop, which locks apps: everywhere, apps are locked before grants.
            let reason = GrantRevocationReason::AccountDeleted;
            oauth_grants::revoke_all(tx, person.account, reason, audit.at).await?;
            let events = events.iter().map(|event| event.to_audit_event(audit)).collect();
            audit_events::insert_all(tx, events).await?;
            memberships::remove_of_account(tx, person.account, audit.at).await?;
            accounts::delete(tx, person.account, audit.at).await
        })
        .await
}

/// Removes the addresses, names and locations that other tables contain about the account.
async fn remove_personal_data(tx: &mut PgConnection, person: &Person, email: &str) -> Result<()> {
    let account = person.account;
    repo::sessions::remove_all(tx, account).await?;
    repo::personal_tokens::remove_all(tx, account).await?;
    mails::remove_about_account(tx, email).await?;
    email_tokens::remove_all(tx, account).await?;
    sso_identities::remove_of_account(tx, account).await?;
    invites::remove_accepted_by(tx, account, email).await?;
    idempotency_keys::remove_for_account(tx, account, &person.credential.principal()).await
}

/// An event that a deletion records.
struct DeletionEvent {
    organization: OrganizationId,
    event_type: AuditEventType,
    actor: String,
    target: String,
    detail: serde_json::Value,
}

impl DeletionEvent {
    fn to_audit_event<'a>(&'a self, audit: &'a AuditContext) -> NewAuditEvent<'a> {
        NewAuditEvent {
            organization: self.organization,
            event_type: self.event_type,
            actor: &self.actor,
            target: &self.target,
            key_display_id: None,
            detail: self.detail.clone(),
            audit,
        }
    }
}

fn event_of_account(account: AccountId, organization: OrganizationId) -> DeletionEvent {
    let (actor, target) = (account.to_string(), account.to_string());
    let event_type = AuditEventType::AccountDeleted;
    DeletionEvent { organization, event_type, actor, target, detail: json!({}) }
}

/// Revokes the invitations of a membership that ends, or deletes the organization if this is its
/// last member. Returns the events.
async fn leave_organization(
    tx: &mut PgConnection,
    membership: &Membership,
    audit: &AuditContext,
) -> Result<Vec<DeletionEvent>> {
    let organization = membership.organization;
    let mut events = Vec::new();
    let (event_type, target) = if membership.is_shared {
        invites::revoke_by_inviter(tx, organization, membership.id, false, audit.at).await?;
        (AuditEventType::MemberRemoved, &membership.handle)
    } else {
        invites::revoke_all(tx, organization, audit.at).await?;
        organizations::delete(tx, organization, audit.at).await?;
        let reason = GrantRevocationReason::AppDeleted;
        let apps = oauth_apps::lock_all(tx, organization).await?;
        let ended = app_grants::end_all(tx, &apps, reason, audit.at).await?;
        events.extend(ended.iter().map(|ended| DeletionEvent {
            organization: ended.organization,
            event_type: AuditEventType::AppGrantRevoked,
            actor: ended.app.to_string(),
            target: ended.app.to_string(),
            detail: ended.detail(reason),
        }));
        (AuditEventType::OrganizationDeleted, &membership.organization_handle)
    };
    events.push(DeletionEvent {
        organization,
        event_type,
        actor: membership.handle.clone(),
        target: target.clone(),
        detail: json!({ "role": membership.role.as_str() }),
    });
    Ok(events)
}
