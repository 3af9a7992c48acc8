//! Open signup: a stranger becomes an organization with an owner's seat and a key that may do
//! everything.

use serde_json::json;
use subtle::ConstantTimeEq;

use crate::app::App;
use crate::config::signup::SignupSettings;
use crate::domain::keys::{CreatedKey, KeySpec, mint};
use crate::error::{Error, ErrorKind, Result};
use crate::model::audit::{AuditContext, EventType, NewAuditEvent};
use crate::model::ids::{MembershipId, OrganizationId, new_membership_handle, new_uuid};
use crate::model::key_name::KeyName;
use crate::model::member::NewMembership;
use crate::model::org_handle::OrgHandle;
use crate::model::organization::NewOrganization;
use crate::model::role::Role;
use crate::model::scope::ScopeSet;
use crate::repo::{audit_events, memberships, organizations};

/// How often ids are drawn anew where chance drew one that is taken.
const MAX_ATTEMPTS: usize = 3;

/// What a signup made.
pub struct SignedUpOrganization {
    /// The organization's id.
    pub organization_handle: OrgHandle,
    /// The id of the owner's seat.
    pub user_handle: String,
    /// The first key.
    pub minted: CreatedKey,
}

/// Passes whoever may sign up: `token` is what they sent to prove it.
///
/// # Errors
/// Forbidden where signup is closed, or gated and the token is missing or wrong.
pub fn require_signup_allowed(settings: &SignupSettings, token: Option<&str>) -> Result<()> {
    match settings {
        SignupSettings::Open => Ok(()),
        SignupSettings::Closed => Err(Error::forbidden("Signup is closed")),
        SignupSettings::Gated(expected) => {
            let sent = token.unwrap_or_default().as_bytes();
            if expected.expose().as_bytes().ct_eq(sent).into() {
                Ok(())
            } else {
                Err(Error::forbidden("Signup needs a valid X-Signup-Token"))
            }
        }
    }
}

/// Makes an organization, its owner's seat and its first key; `name` labels the key.
///
/// # Errors
/// Conflict where the chosen id is taken, or chance drew taken ids again and again.
pub async fn sign_up(
    app: &App,
    chosen: Option<OrgHandle>,
    name: Option<KeyName>,
    audit: &AuditContext,
) -> Result<SignedUpOrganization> {
    let mut attempts = 1..=MAX_ATTEMPTS;
    loop {
        attempts.next();
        let handle = chosen.clone().unwrap_or_else(|| OrgHandle::generate(&*app.entropy));
        let may_retry = chosen.is_none() && !attempts.is_empty();
        match create_organization(app, handle, name.as_ref(), audit).await {
            Err(error) if may_retry && *error.kind() == ErrorKind::Conflict => {}
            done => return done,
        }
    }
}

async fn create_organization(
    app: &App,
    handle: OrgHandle,
    name: Option<&KeyName>,
    audit: &AuditContext,
) -> Result<SignedUpOrganization> {
    let organization = OrganizationId(new_uuid(audit.at, &*app.entropy));
    let user = MembershipId(new_uuid(audit.at, &*app.entropy));
    let user_handle = new_membership_handle(&*app.entropy);
    app.db
        .transaction(async |tx| {
            let new = NewOrganization::on_trial(organization, &handle, handle.as_str(), audit.at);
            organizations::insert(tx, &new).await?;
            let seat = NewMembership {
                organization,
                id: user,
                handle: &user_handle,
                role: Role::Owner,
                account: None,
                created_at: audit.at,
            };
            memberships::insert(tx, &seat).await?;
            let spec = KeySpec::plain(name.cloned(), ScopeSet::all(), None);
            let minted = mint(app, tx, (organization, user), spec, audit.at).await?;
            let event = NewAuditEvent {
                organization,
                event_type: EventType::OrganizationSignedUp,
                actor: &user_handle,
                target: handle.as_str(),
                key_display_id: None,
                detail: json!({
                    "key_id": minted.key.id.to_string(),
                    "key_display_id": minted.key.display_id,
                }),
                audit,
            };
            audit_events::insert(tx, &event).await?;
            Ok(SignedUpOrganization { organization_handle: handle, user_handle, minted })
        })
        .await
}
