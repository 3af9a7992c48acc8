//! Creation of grants: by a person's consent, or by their approval of a device's request.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::accounts::events::record_account_event;
use crate::domain::mail;
use crate::domain::oauth::pending_request::AccessRequest;
use crate::error::{Error, Result};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::caller::{Caller, Person};
use crate::model::ids::{GrantId, MembershipId, OrganizationId, SessionId};
use crate::model::oauth::authorization_request::AuthorizationRequest;
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::grant::{GrantedAccess, NewAuthorizationCode, NewGrant, permitted_scopes};
use crate::model::oauth::{OFFLINE_ACCESS, OpenidScope};
use crate::model::scope::BuiltInScope;
use crate::model::secret::Digest;
use crate::repo::{audit_events, oauth_codes, oauth_grants};

/// A grant, and the scopes of it that the client gets tokens for.
pub(super) struct Granted {
    id: GrantId,
    scopes: Vec<String>,
}

/// Returns those of the selected scopes that the membership's role and the session permit; `None`
/// if they permit no access.
///
/// A session of single sign-on acts in its organization only. So it does not permit an app to
/// change the account, and it signs the person in to apps of the same organization only: an ID
/// token for another app would be about the whole account.
pub(super) fn permitted_by(
    (client, person): (&OauthClient, &Person),
    membership: Option<&Caller>,
    selected: &[String],
) -> Option<Vec<String>> {
    let mut scopes = permitted_scopes(selected, membership.and_then(|membership| membership.role));
    if person.is_in_sso_session() {
        let is_own_app = person.pinned_to == Some(client.organization);
        let is_of_account = |scope: &str| {
            scope == BuiltInScope::UserWrite.as_str()
                || !is_own_app && OpenidScope::parse(scope).is_some()
        };
        scopes.retain(|scope| !is_of_account(scope));
    }
    let is_access = scopes.iter().any(|scope| scope != OFFLINE_ACCESS);
    is_access.then_some(scopes)
}

/// Creates the grant, or adds to the live one, and records that. The account must be locked, so
/// that no concurrent transaction does the same.
pub(super) async fn record_grant(
    app: &App,
    tx: &mut PgConnection,
    (request, person): (AccessRequest<'_>, &Person),
    (membership, scopes): (Option<Arc<Caller>>, Vec<String>),
    audit: &AuditContext,
) -> Result<Granted> {
    let membership = membership.as_deref();
    let pin = membership.map(|membership| (membership.organization, membership.membership));
    if let Some(pin) = pin {
        oauth_grants::revoke_of_earlier_memberships(tx, person.account, pin, audit.at).await?;
    }
    let (client, resources) = (request.client, &request.access.resources);
    let organization = pin.map(|(organization, _)| organization);
    let live = oauth_grants::lock_live(tx, person.account, client.id, organization).await?;
    let (event, id, access) = if let Some((id, mut access)) = live {
        let is_wider = access.add(&scopes, resources);
        // Also if it is not wider: this records that the person has seen the client as it is now.
        oauth_grants::set_access(tx, (person.account, id), &access, audit.at).await?;
        if !is_wider {
            return Ok(Granted { id, scopes });
        }
        (AuditEventType::AppGrantWidened, id, access)
    } else {
        let mut access = GrantedAccess::default();
        access.add(&scopes, resources);
        let id = insert_grant(app, tx, (client, person), (pin, &access), audit).await?;
        (AuditEventType::AppGrantCreated, id, access)
    };
    let detail = json!({
        "client_id": client.client_id,
        "client_name": client.name,
        "scopes": access.scopes,
        "resources": access.resources,
    });
    record_grant_event(tx, person, membership, (event, id, detail), audit).await?;
    if let (AuditEventType::AppGrantCreated, Some(organization)) = (event, organization) {
        notify_owners(app, tx, organization, client, audit).await?;
    }
    Ok(Granted { id, scopes })
}

/// Queues a mail to the owners of an organization, at most one a day, if this is its first grant to
/// a client that is not its own and that its policy does not name as allowed.
async fn notify_owners(
    app: &App,
    tx: &mut PgConnection,
    organization: OrganizationId,
    client: &OauthClient,
    audit: &AuditContext,
) -> Result<()> {
    let handle = oauth_grants::claim_notice(tx, organization, client.id, audit.at).await?;
    let Some(handle) = handle else { return Ok(()) };
    mail::queue_app_granted(app, tx, (organization, &handle), audit.at).await
}

/// Returns the live grant, which must contain these scopes and the requested resources.
///
/// # Errors
/// Forbidden if it was revoked meanwhile.
pub(super) async fn find_granted(
    tx: &mut PgConnection,
    (request, person): (AccessRequest<'_>, &Person),
    (membership, scopes): (Option<&Caller>, Vec<String>),
) -> Result<Granted> {
    let organization = membership.map(|membership| membership.organization);
    let client = request.client.id;
    let live = oauth_grants::lock_live(tx, person.account, client, organization).await?;
    let granted = live.filter(|(_, access)| access.contains(&scopes, &request.access.resources));
    let (id, _) = granted.ok_or_else(|| Error::forbidden("This access was revoked"))?;
    Ok(Granted { id, scopes })
}

async fn insert_grant(
    app: &App,
    tx: &mut PgConnection,
    (client, person): (&OauthClient, &Person),
    (membership, access): (Option<(OrganizationId, MembershipId)>, &GrantedAccess),
    audit: &AuditContext,
) -> Result<GrantId> {
    let id = GrantId::new(audit.at, &*app.entropy);
    let (account, created_at) = (person.account, audit.at);
    let new = NewGrant { id, account, client: client.id, membership, access, created_at };
    if oauth_grants::insert(tx, &new).await? {
        Ok(id)
    } else {
        Err(Error::unavailable("another transaction created the grant"))
    }
}

/// Records an event of a grant in the audit log of its organization, or in that of the account.
async fn record_grant_event(
    tx: &mut PgConnection,
    person: &Person,
    membership: Option<&Caller>,
    (event_type, grant, detail): (AuditEventType, GrantId, serde_json::Value),
    audit: &AuditContext,
) -> Result<()> {
    let target = grant.to_string();
    let Some(membership) = membership else {
        return record_account_event(tx, person.account, event_type, &target, detail, audit).await;
    };
    let event = NewAuditEvent {
        organization: membership.organization,
        event_type,
        actor: &membership.membership_handle,
        target: &target,
        key_display_id: None,
        detail,
        audit,
    };
    audit_events::insert(tx, &event).await
}

/// Inserts the code, with this digest and lifetime, with which the client gets the tokens of a
/// grant. `authorization` is the request of a client that is not a device.
pub(super) async fn insert_code(
    tx: &mut PgConnection,
    request: AccessRequest<'_>,
    (digest, lifetime, authorization): (Digest, Duration, Option<&AuthorizationRequest>),
    ((person, session), granted): ((&Person, SessionId), &Granted),
) -> Result<()> {
    let scopes = granted.scopes.iter().filter(|scope| *scope != OFFLINE_ACCESS).cloned();
    let scopes: Vec<String> = scopes.collect();
    let new = NewAuthorizationCode {
        digest,
        account: person.account,
        grant: granted.id,
        session,
        redirect_uri: request.redirect_uri,
        challenge: authorization.map(|it| it.challenge.as_str()),
        nonce: authorization.and_then(|it| it.nonce.as_deref()),
        is_offline: scopes.len() < granted.scopes.len(),
        scopes: &scopes,
        resources: &request.access.resources,
        lifetime,
    };
    oauth_codes::insert(tx, &new).await
}
