//! Organizations that the operator makes: with an owner's seat that nobody has claimed, and a first
//! key; and their keys, where the operator has to step in.
//!
//! `by` is whoever decided it, for the trail: a master key's scope, a payment, a command.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::invites_of_keys;
use crate::domain::keys::{KeySpec, Minted, mint};
use crate::domain::standing::{hold, record};
use crate::error::Result;
use crate::model::audit::{AuditEvent, EventType, Trail};
use crate::model::ids::{OrganizationId, UserId, new_user_handle, new_uuid};
use crate::model::member::{JoinedByKey, NewSeat};
use crate::model::org_handle::OrgHandle;
use crate::model::organization::{Domain, NewOrganization, OrganizationName, Standing};
use crate::model::origin::Origin;
use crate::model::plan::Plan;
use crate::model::role::Role;
use crate::model::scope::ScopeSet;
use crate::repo::{audit_events, key_claims, key_endings, organizations, users};

/// What an organization is to be.
pub struct Order {
    /// Its id.
    pub handle: OrgHandle,
    /// What it is called.
    pub name: OrganizationName,
    /// Its line of business, where that is known.
    pub domain: Option<Domain>,
    /// What it pays for.
    pub plan: Plan,
    /// Whose pages' scripts may use its keys; anybody's, where empty.
    pub allowed_origins: Vec<Origin>,
}

/// An organization just made.
pub struct Opened {
    /// Its id inside.
    pub organization: OrganizationId,
    /// The owner's seat, which nobody has claimed.
    pub owner: UserId,
}

/// Makes an organization and its first key, which may do everything in it.
///
/// # Errors
/// Conflict where the id is taken.
pub async fn provision(
    app: &App,
    tx: &mut PgConnection,
    order: &Order,
    by: &str,
    trail: &Trail,
) -> Result<Minted> {
    let Opened { organization, owner } = open(app, tx, order, by, trail).await?;
    first_key(app, tx, (organization, owner), by, trail).await
}

/// Makes an organization without a key.
///
/// # Errors
/// Conflict where the id is taken.
pub async fn open(
    app: &App,
    tx: &mut PgConnection,
    order: &Order,
    by: &str,
    trail: &Trail,
) -> Result<Opened> {
    let organization = OrganizationId(new_uuid(trail.at, &*app.entropy));
    let new = NewOrganization {
        id: organization,
        handle: &order.handle,
        name: order.name.as_str(),
        plan: order.plan,
        domain: order.domain,
        allowed_origins: &order.allowed_origins,
        created_at: trail.at,
    };
    organizations::insert(tx, &new).await?;
    let owner = add_owner(app, tx, organization, trail).await?;
    let event = AuditEvent {
        organization,
        event_type: EventType::OrganizationProvisioned,
        actor: by,
        target: order.handle.as_str(),
        key_display_id: None,
        detail: json!({
            "name": order.name.as_str(),
            "plan": order.plan.as_str(),
            "domain": order.domain.map(Domain::as_str),
            "allowed_origins": order.allowed_origins.iter().map(Origin::as_str).collect::<Vec<_>>(),
        }),
        trail,
    };
    audit_events::insert(tx, &event).await?;
    Ok(Opened { organization, owner })
}

/// Mints the first key of an organization, which may do everything in it.
///
/// # Errors
/// The database's own.
pub async fn first_key(
    app: &App,
    tx: &mut PgConnection,
    (organization, owner): (OrganizationId, UserId),
    by: &str,
    trail: &Trail,
) -> Result<Minted> {
    let minted = mint_first(app, tx, (organization, owner), trail).await?;
    let event = AuditEvent {
        organization,
        event_type: EventType::KeyCreated,
        actor: by,
        target: &minted.key.id.to_string(),
        key_display_id: None,
        detail: json!({ "display_id": minted.key.display_id }),
        trail,
    };
    audit_events::insert(tx, &event).await?;
    Ok(minted)
}

/// A key that may do everything in the organization.
async fn mint_first(
    app: &App,
    tx: &mut PgConnection,
    seat: (OrganizationId, UserId),
    trail: &Trail,
) -> Result<Minted> {
    mint(app, tx, seat, KeySpec::plain(None, ScopeSet::all(), None), trail.at).await
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
    trail: &Trail,
) -> Result<(Standing, Vec<JoinedByKey>)> {
    let standing = hold(tx, handle).await?;
    let memberships = revoke_all(tx, &standing, by, trail).await?;
    Ok((standing, memberships))
}

/// What the operator is answered where an organization's keys were replaced.
pub struct ForceRotated {
    /// How the organization stands.
    pub standing: Standing,
    /// Its new key.
    pub minted: Minted,
    /// The memberships that began by invitations of its keys.
    pub memberships: Vec<JoinedByKey>,
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
    trail: &Trail,
) -> Result<ForceRotated> {
    let standing = hold(tx, handle).await?;
    let memberships = revoke_all(tx, &standing, by, trail).await?;
    let owner = owner_of(app, tx, &standing, trail).await?;
    let minted = mint_first(app, tx, (standing.id, owner), trail).await?;
    let detail = json!({
        "key_id": minted.key.id.to_string(),
        "display_id": minted.key.display_id,
    });
    record(tx, &standing, EventType::KeysForceRotated, by, detail, trail).await?;
    Ok(ForceRotated { standing, minted, memberships })
}

/// The first owner's seat of an organization that is held; a new one where there is none.
///
/// # Errors
/// The database's own.
pub async fn owner_of(
    app: &App,
    tx: &mut PgConnection,
    standing: &Standing,
    trail: &Trail,
) -> Result<UserId> {
    let owner = match OrgHandle::parse(&standing.handle) {
        Ok(handle) => users::find_owner(tx, &handle).await?.map(|(_, seat)| seat),
        Err(_) => None,
    };
    match owner {
        Some(owner) => Ok(owner),
        None => add_owner(app, tx, standing.id, trail).await,
    }
}

/// Ends every live key of an organization that is held, the claim to its first one, and what its
/// keys invited: those that ended before as well, of which any may have been in wrong hands.
///
/// Invariant: nobody mints meanwhile. Who acts in a session or with a personal token holds their
/// seat, who acts with a key holds that: both are waited for here.
async fn revoke_all(
    tx: &mut PgConnection,
    standing: &Standing,
    by: &str,
    trail: &Trail,
) -> Result<Vec<JoinedByKey>> {
    key_claims::revoke(tx, standing.id, trail.at).await?;
    users::hold_all(tx, standing.id).await?;
    let reason = "Revoked by the operator";
    let mut revoked = 0;
    // A key that was being minted is seen only once its parent's lock was waited for.
    loop {
        match key_endings::revoke_all(tx, standing.id, reason, by, trail.at).await? {
            0 => break,
            some => revoked += some,
        }
    }
    let ended = invites_of_keys::end(tx, standing.id, None, trail).await?;
    let mut detail = json!({ "keys": revoked });
    ended.add_to(&mut detail);
    record(tx, standing, EventType::KeysForceRevoked, by, detail, trail).await?;
    Ok(ended.memberships)
}

/// An owner's seat that nobody has claimed: whoever is invited as an owner takes it.
async fn add_owner(
    app: &App,
    tx: &mut PgConnection,
    organization: OrganizationId,
    trail: &Trail,
) -> Result<UserId> {
    let id = UserId(new_uuid(trail.at, &*app.entropy));
    let seat = NewSeat {
        organization,
        id,
        handle: &new_user_handle(&*app.entropy),
        role: Role::Owner,
        account: None,
        created_at: trail.at,
    };
    users::insert(tx, &seat).await?;
    Ok(id)
}
