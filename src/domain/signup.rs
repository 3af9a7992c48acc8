//! Open signup: a stranger becomes an organization with an owner's seat and a key that may do
//! everything.

use serde_json::json;
use subtle::ConstantTimeEq;

use crate::app::App;
use crate::config::signup::SignupSettings;
use crate::domain::keys::{KeySpec, Minted, mint};
use crate::error::{Error, Kind, Result};
use crate::model::audit::{AuditEvent, EventType, Trail};
use crate::model::ids::{OrganizationId, UserId, new_user_handle, new_uuid};
use crate::model::key_name::KeyName;
use crate::model::member::NewSeat;
use crate::model::org_handle::OrgHandle;
use crate::model::organization::NewOrganization;
use crate::model::role::Role;
use crate::model::scope::ScopeSet;
use crate::repo::{audit_events, organizations, users};

/// How often ids are drawn anew where chance drew one that is taken.
const ATTEMPTS: usize = 3;

/// What a signup made.
pub struct SignedUp {
    /// The organization's id.
    pub organization_handle: OrgHandle,
    /// The id of the owner's seat.
    pub user_handle: String,
    /// The first key.
    pub minted: Minted,
}

/// Passes whoever may sign up: `token` is what they sent to prove it.
///
/// # Errors
/// Forbidden where signup is closed, or gated and the token is missing or wrong.
pub fn admit(settings: &SignupSettings, token: Option<&str>) -> Result<()> {
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
    trail: &Trail,
) -> Result<SignedUp> {
    let mut attempts = 1..=ATTEMPTS;
    loop {
        attempts.next();
        let handle = chosen.clone().unwrap_or_else(|| OrgHandle::generate(&*app.entropy));
        let may_retry = chosen.is_none() && !attempts.is_empty();
        match found(app, handle, name.as_ref(), trail).await {
            Err(error) if may_retry && *error.kind() == Kind::Conflict => {}
            done => return done,
        }
    }
}

async fn found(
    app: &App,
    handle: OrgHandle,
    name: Option<&KeyName>,
    trail: &Trail,
) -> Result<SignedUp> {
    let organization = OrganizationId(new_uuid(trail.at, &*app.entropy));
    let user = UserId(new_uuid(trail.at, &*app.entropy));
    let user_handle = new_user_handle(&*app.entropy);
    app.db
        .transaction(async |tx| {
            let new = NewOrganization::on_trial(organization, &handle, handle.as_str(), trail.at);
            organizations::insert(tx, &new).await?;
            let seat = NewSeat {
                organization,
                id: user,
                handle: &user_handle,
                role: Role::Owner,
                account: None,
                created_at: trail.at,
            };
            users::insert(tx, &seat).await?;
            let spec = KeySpec::plain(name.cloned(), ScopeSet::all(), None);
            let minted = mint(app, tx, (organization, user), spec, trail.at).await?;
            let event = AuditEvent {
                organization,
                event_type: EventType::OrganizationSignedUp,
                actor: &user_handle,
                target: handle.as_str(),
                key_display_id: None,
                detail: json!({
                    "key_id": minted.key.id.to_string(),
                    "key_display_id": minted.key.display_id,
                }),
                trail,
            };
            audit_events::insert(tx, &event).await?;
            Ok(SignedUp { organization_handle: handle, user_handle, minted })
        })
        .await
}
