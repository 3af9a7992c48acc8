//! Open signup: an unauthenticated client creates an organization with an owner membership and a
//! key that has all scopes.

use serde_json::json;
use subtle::ConstantTimeEq;

use crate::app::App;
use crate::config::signup::SignupSettings;
use crate::domain::keys::{CreatedKey, KeySpec, insert_key};
use crate::error::{Error, ErrorKind, Result};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::ids::{MembershipId, OrganizationId, new_membership_handle, new_uuid};
use crate::model::member::NewMembership;
use crate::model::names::KeyName;
use crate::model::organization::NewOrganization;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::role::Role;
use crate::model::scope::ScopeSet;
use crate::repo::{audit_events, memberships, organizations};

/// The maximum number of attempts to generate an id that is not taken.
const MAX_ATTEMPTS: usize = 3;

/// The result of a signup.
pub struct SignedUpOrganization {
    /// The organization's id.
    pub organization_handle: OrganizationHandle,
    /// The id of the owner's membership.
    pub user_handle: String,
    /// The first key.
    pub created_key: CreatedKey,
}

/// Checks that signup is allowed; `token` is the one that the client sent.
///
/// # Errors
/// Forbidden if signup is closed, or if it is gated and the token is missing or wrong.
pub fn require_signup_allowed(settings: &SignupSettings, token: Option<&str>) -> Result<()> {
    match settings {
        SignupSettings::Open => Ok(()),
        SignupSettings::Closed => Err(Error::forbidden("Signup is closed")),
        SignupSettings::Gated(expected) => {
            let sent = token.unwrap_or_default().as_bytes();
            if expected.expose().as_bytes().ct_eq(sent).into() {
                Ok(())
            } else {
                Err(Error::forbidden("A valid X-Signup-Token header is required"))
            }
        }
    }
}

/// Creates an organization, its owner's membership and its first key; `name` is the key's name.
///
/// # Errors
/// Conflict if the chosen id is taken, or if every generated id was.
pub async fn sign_up(
    app: &App,
    chosen: Option<OrganizationHandle>,
    name: Option<KeyName>,
    audit: &AuditContext,
) -> Result<SignedUpOrganization> {
    let mut attempts = 1..=MAX_ATTEMPTS;
    loop {
        attempts.next();
        let handle = chosen.clone().unwrap_or_else(|| OrganizationHandle::generate(&*app.entropy));
        let may_retry = chosen.is_none() && !attempts.is_empty();
        match create_organization(app, handle, name.as_ref(), audit).await {
            Err(error) if may_retry && *error.kind() == ErrorKind::Conflict => {}
            result => return result,
        }
    }
}

async fn create_organization(
    app: &App,
    handle: OrganizationHandle,
    name: Option<&KeyName>,
    audit: &AuditContext,
) -> Result<SignedUpOrganization> {
    let organization = OrganizationId(new_uuid(audit.at, &*app.entropy));
    let membership_id = MembershipId(new_uuid(audit.at, &*app.entropy));
    let user_handle = new_membership_handle(&*app.entropy);
    app.db
        .transaction(async |tx| {
            let new = NewOrganization::on_trial(organization, &handle, handle.as_str(), audit.at);
            organizations::insert(tx, &new).await?;
            let membership = NewMembership {
                organization,
                id: membership_id,
                handle: &user_handle,
                role: Role::Owner,
                account: None,
                created_at: audit.at,
            };
            memberships::insert(tx, &membership).await?;
            let spec = KeySpec::plain(name.cloned(), ScopeSet::all(), None);
            let created_key =
                insert_key(app, tx, (organization, membership_id), spec, audit.at).await?;
            let event = NewAuditEvent {
                organization,
                event_type: AuditEventType::OrganizationSignedUp,
                actor: &user_handle,
                target: handle.as_str(),
                key_display_id: None,
                detail: json!({
                    "key_id": created_key.key.id.to_string(),
                    "key_display_id": created_key.key.display_id,
                }),
                audit,
            };
            audit_events::insert(tx, &event).await?;
            Ok(SignedUpOrganization { organization_handle: handle, user_handle, created_key })
        })
        .await
}
