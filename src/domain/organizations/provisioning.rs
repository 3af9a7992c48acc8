//! Organizations that the operator or an event of Stripe creates, with an unclaimed owner
//! membership and a first key (the buyer of an organization claims its key later), and the
//! operator's interventions on an organization's keys.
//!
//! `actor` is recorded in the audit log: a master key's scope, a command, Stripe, or for a first
//! key also the claim by its buyer.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::invites;
use crate::domain::keys::{CreatedKey, KeySpec, insert_key};
use crate::domain::organizations::settings::audited_settings;
use crate::domain::organizations::status::{lock_organization, record_operator_event};
use crate::error::Result;
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::external_actor::ExternalActor;
use crate::model::ids::{MembershipId, OrganizationId, new_membership_handle, new_uuid};
use crate::model::leak::LeakPolicy;
use crate::model::member::{KeyInvitedMembership, NewMembership};
use crate::model::names::OrganizationName;
use crate::model::organization::{
    BusinessDomain, NewOrganization, OrganizationSettings, OrganizationStatus,
};
use crate::model::organization_handle::OrganizationHandle;
use crate::model::origin::Origin;
use crate::model::plan::Plan;
use crate::model::role::Role;
use crate::model::scope::ScopeSet;
use crate::repo::{
    audit_events, credit_balances, key_claims, key_lifecycle, memberships, organization_settings,
    organizations,
};

/// The attributes of an organization to create.
pub struct OrganizationSpec {
    /// Its id.
    pub handle: OrganizationHandle,
    /// Its display name.
    pub name: OrganizationName,
    /// Its business domain, if known.
    pub domain: Option<BusinessDomain>,
    /// Its plan.
    pub plan: Plan,
    /// The browser origins that may use its keys; every origin if empty.
    pub allowed_origins: Vec<Origin>,
    /// Its external id, metadata, rate limits and credits.
    pub settings: OrganizationSettings,
    /// What is done with a key of it that is reported as leaked.
    pub leak_policy: LeakPolicy,
}

/// A newly created organization.
pub struct ProvisionedOrganization {
    /// Its internal id.
    pub organization: OrganizationId,
    /// The owner's membership, which no account has claimed.
    pub owner: MembershipId,
}

/// Creates an organization and its first key, which has all scopes.
///
/// # Errors
/// Conflict if the id is taken.
pub async fn provision(
    app: &App,
    tx: &mut PgConnection,
    spec: &OrganizationSpec,
    actor: ExternalActor,
    audit: &AuditContext,
) -> Result<CreatedKey> {
    let ProvisionedOrganization { organization, owner } =
        create_organization(app, tx, spec, actor, audit).await?;
    create_first_key(app, tx, (organization, owner), actor.as_str(), audit).await
}

/// Creates an organization without a key.
///
/// # Errors
/// Conflict if the id is taken.
pub async fn create_organization(
    app: &App,
    tx: &mut PgConnection,
    spec: &OrganizationSpec,
    actor: ExternalActor,
    audit: &AuditContext,
) -> Result<ProvisionedOrganization> {
    let organization = OrganizationId(new_uuid(audit.at, &*app.entropy));
    let new = NewOrganization {
        id: organization,
        handle: &spec.handle,
        name: spec.name.as_str(),
        plan: spec.plan,
        domain: spec.domain,
        allowed_origins: &spec.allowed_origins,
        leak_policy: spec.leak_policy,
        created_at: audit.at,
    };
    organizations::insert(tx, &new).await?;
    organization_settings::update(tx, organization, (&spec.settings, true), audit.at).await?;
    if let Some(credits) = &spec.settings.credits {
        credit_balances::set(tx, (organization, organization.0), credits).await?;
    }
    let owner = add_unclaimed_owner(app, tx, organization, audit).await?;
    let event = NewAuditEvent {
        organization,
        event_type: AuditEventType::OrganizationProvisioned,
        actor: actor.as_str(),
        target: spec.handle.as_str(),
        key_display_id: None,
        detail: json!({
            "name": spec.name.as_str(),
            "plan": spec.plan.as_str(),
            "domain": spec.domain.map(BusinessDomain::as_str),
            "settings": audited_settings(&spec.settings),
            "allowed_origins": spec.allowed_origins.iter().map(Origin::as_str).collect::<Vec<_>>(),
            "leak_policy": spec.leak_policy.as_str(),
        }),
        audit,
    };
    audit_events::insert(tx, &event).await?;
    Ok(ProvisionedOrganization { organization, owner })
}

/// Creates the first key of an organization, with all scopes, and records it in the audit log.
pub async fn create_first_key(
    app: &App,
    tx: &mut PgConnection,
    (organization, owner): (OrganizationId, MembershipId),
    actor: &str,
    audit: &AuditContext,
) -> Result<CreatedKey> {
    let created_key = insert_key_with_all_scopes(app, tx, (organization, owner), audit).await?;
    let event = NewAuditEvent {
        organization,
        event_type: AuditEventType::KeyCreated,
        actor,
        target: &created_key.key.id.to_string(),
        key_display_id: None,
        detail: json!({ "display_id": created_key.key.display_id }),
        audit,
    };
    audit_events::insert(tx, &event).await?;
    Ok(created_key)
}

/// Creates a key with all scopes, without an audit event.
async fn insert_key_with_all_scopes(
    app: &App,
    tx: &mut PgConnection,
    membership: (OrganizationId, MembershipId),
    audit: &AuditContext,
) -> Result<CreatedKey> {
    insert_key(app, tx, membership, KeySpec::plain(None, ScopeSet::all(), None), audit.at).await
}

/// Permanently revokes every key of an organization, except keys that have ended, and the open
/// invitations that any of its keys sent. Returns the organization's status and the memberships
/// from the keys' accepted invitations.
///
/// # Errors
/// Not found if there is no such organization.
pub async fn force_revoke(
    tx: &mut PgConnection,
    handle: &OrganizationHandle,
    actor: ExternalActor,
    audit: &AuditContext,
) -> Result<(OrganizationStatus, Vec<KeyInvitedMembership>)> {
    let status = lock_organization(tx, handle).await?;
    let memberships = revoke_all_keys(tx, &status, actor, audit).await?;
    Ok((status, memberships))
}

/// The result of [`force_rotate`].
pub struct ForceRotation {
    /// The organization's status.
    pub status: OrganizationStatus,
    /// Its new key.
    pub created_key: CreatedKey,
    /// The memberships from accepted invitations of its former keys.
    pub memberships: Vec<KeyInvitedMembership>,
}

/// Revokes keys as [`force_revoke`] does, and creates a new one with all scopes.
///
/// # Errors
/// Not found if there is no such organization.
pub async fn force_rotate(
    app: &App,
    tx: &mut PgConnection,
    handle: &OrganizationHandle,
    actor: ExternalActor,
    audit: &AuditContext,
) -> Result<ForceRotation> {
    let status = lock_organization(tx, handle).await?;
    let memberships = revoke_all_keys(tx, &status, actor, audit).await?;
    let owner = find_or_add_owner(app, tx, &status, audit).await?;
    let created_key = insert_key_with_all_scopes(app, tx, (status.id, owner), audit).await?;
    let detail = json!({
        "key_id": created_key.key.id.to_string(),
        "display_id": created_key.key.display_id,
    });
    record_operator_event(tx, &status, AuditEventType::KeysForceRotated, actor, detail, audit)
        .await?;
    Ok(ForceRotation { status, created_key, memberships })
}

/// Returns the first owner's membership of an organization that is locked, and adds an unclaimed
/// one if there is none.
pub async fn find_or_add_owner(
    app: &App,
    tx: &mut PgConnection,
    status: &OrganizationStatus,
    audit: &AuditContext,
) -> Result<MembershipId> {
    let owner = match OrganizationHandle::parse(&status.handle) {
        Ok(handle) => memberships::find_owner(tx, &handle).await?.map(|(_, membership)| membership),
        Err(_) => None,
    };
    match owner {
        Some(owner) => Ok(owner),
        None => add_unclaimed_owner(app, tx, status.id, audit).await,
    }
}

/// Revokes every key that has not ended of an organization that is locked, the claim to its first
/// key, and the open invitations of all its keys, including keys that ended before: any of them may
/// have been stolen.
///
/// Invariant: no credential creates a key meanwhile. A caller with a key locks the key, every other
/// caller its membership, and both locks are acquired here.
async fn revoke_all_keys(
    tx: &mut PgConnection,
    status: &OrganizationStatus,
    actor: ExternalActor,
    audit: &AuditContext,
) -> Result<Vec<KeyInvitedMembership>> {
    key_claims::revoke(tx, status.id, audit.at).await?;
    memberships::lock_all(tx, status.id).await?;
    let reason = "Revoked by the operator";
    let mut revoked_keys = 0;
    // A key that another key is creating becomes visible only after that other key was locked.
    loop {
        match key_lifecycle::revoke_all(tx, status.id, reason, actor.as_str(), audit.at).await? {
            0 => break,
            some => revoked_keys += some,
        }
    }
    let revoked = invites::revoke(tx, status.id, None, audit).await?;
    let mut detail = json!({ "keys": revoked_keys });
    revoked.add_to(&mut detail);
    record_operator_event(tx, status, AuditEventType::KeysForceRevoked, actor, detail, audit)
        .await?;
    Ok(revoked.memberships)
}

/// Adds an owner's membership without an account; the account that accepts an invitation as owner
/// claims it.
async fn add_unclaimed_owner(
    app: &App,
    tx: &mut PgConnection,
    organization: OrganizationId,
    audit: &AuditContext,
) -> Result<MembershipId> {
    let id = MembershipId(new_uuid(audit.at, &*app.entropy));
    let membership = NewMembership {
        organization,
        id,
        handle: &new_membership_handle(&*app.entropy),
        role: Role::Owner,
        account: None,
        created_at: audit.at,
    };
    memberships::insert(tx, &membership).await?;
    Ok(id)
}
