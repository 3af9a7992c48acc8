//! Organizations that the operator makes: with an owner's seat that nobody has claimed, and a first
//! key; and their keys, where the operator has to step in.
//!
//! `by` is whoever decided it, for the trail: a master key's scope, a payment, a command.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::invites;
use crate::domain::keys::{CreatedKey, KeySpec, mint};
use crate::domain::organizations::status::{lock_organization, record_operator_event};
use crate::error::Result;
use crate::model::audit::{AuditContext, EventType, NewAuditEvent};
use crate::model::ids::{MembershipId, OrganizationId, new_membership_handle, new_uuid};
use crate::model::member::{KeyInvitedMembership, NewMembership};
use crate::model::org_handle::OrgHandle;
use crate::model::organization::{
    BusinessDomain, NewOrganization, OrganizationName, OrganizationStatus,
};
use crate::model::origin::Origin;
use crate::model::plan::Plan;
use crate::model::role::Role;
use crate::model::scope::ScopeSet;
use crate::repo::{audit_events, key_claims, key_lifecycle, memberships, organizations};

/// What an organization is to be.
pub struct OrganizationSpec {
    /// Its id.
    pub handle: OrgHandle,
    /// What it is called.
    pub name: OrganizationName,
    /// Its line of business, where that is known.
    pub domain: Option<BusinessDomain>,
    /// What it pays for.
    pub plan: Plan,
    /// Whose pages' scripts may use its keys; anybody's, where empty.
    pub allowed_origins: Vec<Origin>,
}

/// An organization just made.
pub struct ProvisionedOrganization {
    /// Its id inside.
    pub organization: OrganizationId,
    /// The owner's seat, which nobody has claimed.
    pub owner: MembershipId,
}

/// Makes an organization and its first key, which may do everything in it.
///
/// # Errors
/// Conflict where the id is taken.
pub async fn provision(
    app: &App,
    tx: &mut PgConnection,
    order: &OrganizationSpec,
    by: &str,
    audit: &AuditContext,
) -> Result<CreatedKey> {
    let ProvisionedOrganization { organization, owner } =
        create_organization(app, tx, order, by, audit).await?;
    create_first_key(app, tx, (organization, owner), by, audit).await
}

/// Makes an organization without a key.
///
/// # Errors
/// Conflict where the id is taken.
pub async fn create_organization(
    app: &App,
    tx: &mut PgConnection,
    order: &OrganizationSpec,
    by: &str,
    audit: &AuditContext,
) -> Result<ProvisionedOrganization> {
    let organization = OrganizationId(new_uuid(audit.at, &*app.entropy));
    let new = NewOrganization {
        id: organization,
        handle: &order.handle,
        name: order.name.as_str(),
        plan: order.plan,
        domain: order.domain,
        allowed_origins: &order.allowed_origins,
        created_at: audit.at,
    };
    organizations::insert(tx, &new).await?;
    let owner = add_unclaimed_owner(app, tx, organization, audit).await?;
    let event = NewAuditEvent {
        organization,
        event_type: EventType::OrganizationProvisioned,
        actor: by,
        target: order.handle.as_str(),
        key_display_id: None,
        detail: json!({
            "name": order.name.as_str(),
            "plan": order.plan.as_str(),
            "domain": order.domain.map(BusinessDomain::as_str),
            "allowed_origins": order.allowed_origins.iter().map(Origin::as_str).collect::<Vec<_>>(),
        }),
        audit,
    };
    audit_events::insert(tx, &event).await?;
    Ok(ProvisionedOrganization { organization, owner })
}

/// Mints the first key of an organization, which may do everything in it.
pub async fn create_first_key(
    app: &App,
    tx: &mut PgConnection,
    (organization, owner): (OrganizationId, MembershipId),
    by: &str,
    audit: &AuditContext,
) -> Result<CreatedKey> {
    let minted = mint_first_key(app, tx, (organization, owner), audit).await?;
    let event = NewAuditEvent {
        organization,
        event_type: EventType::KeyCreated,
        actor: by,
        target: &minted.key.id.to_string(),
        key_display_id: None,
        detail: json!({ "display_id": minted.key.display_id }),
        audit,
    };
    audit_events::insert(tx, &event).await?;
    Ok(minted)
}

/// A key that may do everything in the organization.
async fn mint_first_key(
    app: &App,
    tx: &mut PgConnection,
    seat: (OrganizationId, MembershipId),
    audit: &AuditContext,
) -> Result<CreatedKey> {
    mint(app, tx, seat, KeySpec::plain(None, ScopeSet::all(), None), audit.at).await
}

/// Ends every live key of an organization at once, and for good, with the open invitations that any
/// of its keys made. How it stands, and the memberships that began by their other invitations.
///
/// # Errors
/// Not found.
pub async fn force_revoke(
    tx: &mut PgConnection,
    handle: &OrgHandle,
    by: &str,
    audit: &AuditContext,
) -> Result<(OrganizationStatus, Vec<KeyInvitedMembership>)> {
    let standing = lock_organization(tx, handle).await?;
    let memberships = revoke_all_keys(tx, &standing, by, audit).await?;
    Ok((standing, memberships))
}

/// What the operator is answered where an organization's keys were replaced.
pub struct ForceRotation {
    /// How the organization stands.
    pub standing: OrganizationStatus,
    /// Its new key.
    pub minted: CreatedKey,
    /// The memberships that began by invitations of its keys.
    pub memberships: Vec<KeyInvitedMembership>,
}

/// The same, and a new key that may do everything.
///
/// # Errors
/// Not found.
pub async fn force_rotate(
    app: &App,
    tx: &mut PgConnection,
    handle: &OrgHandle,
    by: &str,
    audit: &AuditContext,
) -> Result<ForceRotation> {
    let standing = lock_organization(tx, handle).await?;
    let memberships = revoke_all_keys(tx, &standing, by, audit).await?;
    let owner = find_or_add_owner(app, tx, &standing, audit).await?;
    let minted = mint_first_key(app, tx, (standing.id, owner), audit).await?;
    let detail = json!({
        "key_id": minted.key.id.to_string(),
        "display_id": minted.key.display_id,
    });
    record_operator_event(tx, &standing, EventType::KeysForceRotated, by, detail, audit).await?;
    Ok(ForceRotation { standing, minted, memberships })
}

/// The first owner's seat of an organization that is held; a new one where there is none.
pub async fn find_or_add_owner(
    app: &App,
    tx: &mut PgConnection,
    standing: &OrganizationStatus,
    audit: &AuditContext,
) -> Result<MembershipId> {
    let owner = match OrgHandle::parse(&standing.handle) {
        Ok(handle) => memberships::find_owner(tx, &handle).await?.map(|(_, seat)| seat),
        Err(_) => None,
    };
    match owner {
        Some(owner) => Ok(owner),
        None => add_unclaimed_owner(app, tx, standing.id, audit).await,
    }
}

/// Ends every live key of an organization that is held, the claim to its first one, and what its
/// keys invited: those that ended before as well, of which any may have been in wrong hands.
///
/// Invariant: nobody mints meanwhile. Who acts in a session or with a personal token holds their
/// seat, who acts with a key holds that: both are waited for here.
async fn revoke_all_keys(
    tx: &mut PgConnection,
    standing: &OrganizationStatus,
    by: &str,
    audit: &AuditContext,
) -> Result<Vec<KeyInvitedMembership>> {
    key_claims::revoke(tx, standing.id, audit.at).await?;
    memberships::lock_all(tx, standing.id).await?;
    let reason = "Revoked by the operator";
    let mut revoked = 0;
    // A key that was being minted is seen only once its parent's lock was waited for.
    loop {
        match key_lifecycle::revoke_all(tx, standing.id, reason, by, audit.at).await? {
            0 => break,
            some => revoked += some,
        }
    }
    let ended = invites::revoke(tx, standing.id, None, audit).await?;
    let mut detail = json!({ "keys": revoked });
    ended.add_to(&mut detail);
    record_operator_event(tx, standing, EventType::KeysForceRevoked, by, detail, audit).await?;
    Ok(ended.memberships)
}

/// An owner's seat that nobody has claimed: whoever is invited as an owner takes it.
async fn add_unclaimed_owner(
    app: &App,
    tx: &mut PgConnection,
    organization: OrganizationId,
    audit: &AuditContext,
) -> Result<MembershipId> {
    let id = MembershipId(new_uuid(audit.at, &*app.entropy));
    let seat = NewMembership {
        organization,
        id,
        handle: &new_membership_handle(&*app.entropy),
        role: Role::Owner,
        account: None,
        created_at: audit.at,
    };
    memberships::insert(tx, &seat).await?;
    Ok(id)
}
