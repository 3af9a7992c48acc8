//! A person's answer to an authorization request. Everything that it depends on is read again in
//! the transaction that issues the code.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::accounts::events::record_account_event;
use crate::domain::oauth::pending_request::{AccessRequest, PendingRequest, consume};
use crate::error::{AuthFailure, Error, ErrorKind, Issue, Result};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::caller::{Caller, Person};
use crate::model::ids::{AccountId, GrantId, MembershipId, OrganizationId, SessionId};
use crate::model::key_format::KeyFormat;
use crate::model::oauth::authorization_request::AuthorizationRequest;
use crate::model::oauth::authorization_response::{
    AuthorizationError, AuthorizationErrorCode, AuthorizationResponse,
};
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::grant::{
    GrantCandidate, GrantObstacle, GrantedAccess, NewCode, NewGrant, permitted_scopes,
};
use crate::model::oauth::{ClientVisibility, OFFLINE_ACCESS};
use crate::model::organization_handle::OrganizationHandle;
use crate::model::secret::Digest;
use crate::repo::{
    account_callers, accounts, app_policies, audit_events, oauth_clients, oauth_codes,
    oauth_grants, organizations,
};

/// For how long a code can be exchanged.
const CODE_LIFETIME: Duration = Duration::from_mins(1);

/// What a person grants.
pub struct Approval {
    /// The organization; `None` if every scope is about the person's own account.
    pub organization: Option<OrganizationHandle>,
    /// The granted scopes; `None` for all that are requested.
    pub scopes: Option<Vec<String>>,
}

/// Returns the organizations of an account, each with the obstacle to granting the client access.
///
/// # Errors
/// The errors of the database.
pub async fn list_candidates(
    db: &mut PgConnection,
    client: &OauthClient,
    account: AccountId,
) -> Result<Vec<(GrantCandidate, Option<GrantObstacle>)>> {
    let candidates = oauth_grants::list_candidates(db, account, client.id).await?;
    let ids: Vec<OrganizationId> = candidates.iter().map(|it| it.organization).collect();
    let permitting = app_policies::filter_permitting(db, &ids, client.id).await?;
    let with_obstacle = candidates.into_iter().map(|candidate| {
        let is_permitted = permitting.contains(&candidate.organization);
        let state = (candidate.is_suspended, is_permitted);
        let obstacle = GrantObstacle::find(client, candidate.organization, state);
        (candidate, obstacle)
    });
    Ok(with_obstacle.collect())
}

/// Denies a request: the client gets an error.
///
/// # Errors
/// Not found if the request was answered or has expired; unauthenticated if the session has ended.
pub async fn deny(
    app: &App,
    pending: &PendingRequest,
    session: SessionId,
    audit: &AuditContext,
) -> Result<AuthorizationResponse> {
    let denying = app.db.transaction(async |tx| {
        account_callers::lock_and_confirm_session(tx, None, session).await?;
        consume(tx, pending, audit.at).await
    });
    denying.await?;
    Ok(access_denied(app, pending, "The person denied the request"))
}

fn access_denied(
    app: &App,
    pending: &PendingRequest,
    description: &'static str,
) -> AuthorizationResponse {
    let error = AuthorizationError::new(AuthorizationErrorCode::AccessDenied, description);
    pending.respond(app, Err(error))
}

/// Grants what a request asks for, as far as the account's role permits it, and issues a code. If
/// the role permits nothing of it, the client gets an error.
///
/// # Errors
/// Not found if the request was answered or has expired; unauthenticated if the session has ended
/// or is older than the request allows; forbidden if the organization's policy excludes the client,
/// the client is private to another organization, or the account has no membership; e-mail not
/// verified; organization suspended; conflict if the client was changed; invalid without the
/// organization, or with scopes that were not requested.
pub async fn approve(
    app: &App,
    pending: &PendingRequest,
    caller: (&Person, SessionId),
    approval: &Approval,
    audit: &AuditContext,
) -> Result<AuthorizationResponse> {
    let selected = select_scopes(pending, approval)?;
    let request = pending.access_request();
    let outcome = app.db.transaction(async |tx| {
        let membership = lock_all(tx, request, caller, approval.organization.as_ref()).await?;
        if pending.requires_sign_in(tx, caller).await? {
            return Err(sign_in_again());
        }
        consume(tx, pending, audit.at).await?;
        let Some(scopes) = permitted_by(membership.as_deref(), &selected) else { return Ok(None) };
        let granted =
            record_grant(app, tx, (request, caller.0), (membership, scopes), audit).await?;
        let code = KeyFormat::oauth_code().generate(&*app.entropy);
        let digest = app.peppers.digest(code.expose()).0;
        let of = (digest, CODE_LIFETIME, Some(&pending.request));
        insert_code(tx, request, of, (caller, &granted)).await?;
        Ok(Some(code))
    });
    Ok(match outcome.await? {
        Some(code) => pending.respond(app, Ok(code)),
        None => access_denied(app, pending, "The person's role permits none of the scopes"),
    })
}

/// Returns the scopes that the person selected.
fn select_scopes(pending: &PendingRequest, approval: &Approval) -> Result<Vec<String>> {
    let requested = pending.request.access.scope_texts();
    let Some(selected) = &approval.scopes else { return Ok(requested) };
    if !selected.iter().all(|scope| requested.contains(scope)) {
        let issue = Issue::field("scopes", "must contain only scopes that were requested");
        return Err(Error::invalid(vec![issue]));
    }
    Ok(requested.into_iter().filter(|scope| selected.contains(scope)).collect())
}

/// Locks, in the order of all transactions, what the grant depends on, and checks it. Returns the
/// membership in the chosen organization.
pub(super) async fn lock_all(
    tx: &mut PgConnection,
    request: AccessRequest<'_>,
    (person, session): (&Person, SessionId),
    organization: Option<&OrganizationHandle>,
) -> Result<Option<Arc<Caller>>> {
    let has_ended = |error: Error| match error.kind() {
        ErrorKind::NotFound => sign_in_again(),
        _ => error,
    };
    let account = accounts::lock(tx, person.account).await.map_err(has_ended)?;
    let organization = lock_organization(tx, request, person, organization).await?;
    let membership = organization.map(|organization| (person.account, organization));
    account_callers::lock_and_confirm_session(tx, membership, session).await?;
    // A person who proved only a password may not own the mailbox.
    if !account.is_proven {
        let message = "Verify your e-mail address first";
        return Err(Error::new(ErrorKind::EmailNotVerified, message));
    }
    confirm_client(tx, request).await?;
    match organization {
        Some(organization) => {
            confirm_organization(tx, request.client, person, organization).await.map(Some)
        }
        None => confirm_personal(tx, request.client, person).await.map(|()| None),
    }
}

fn sign_in_again() -> Error {
    Error::unauthenticated(AuthFailure::InvalidToken, "Sign in again to answer this request")
}

fn not_a_member() -> Error {
    Error::forbidden("This is not your organization")
}

/// Locks the organization, so that a change of its policy sees the grant, or is seen here.
async fn lock_organization(
    tx: &mut PgConnection,
    request: AccessRequest<'_>,
    person: &Person,
    handle: Option<&OrganizationHandle>,
) -> Result<Option<OrganizationId>> {
    let issue = |message| Err(Error::invalid(vec![Issue::field("organizationId", message)]));
    match (request.access.needs_organization(), handle) {
        (true, None) => issue("is required"),
        (false, Some(_)) => issue("must not be sent: every scope is about your own account"),
        (false, None) => Ok(None),
        (true, Some(handle)) => {
            let membership = organizations::find_membership(tx, person.account, handle).await?;
            let organization = membership.ok_or_else(not_a_member)?.organization;
            organizations::lock(tx, organization).await?.ok_or_else(not_a_member)?;
            Ok(Some(organization))
        }
    }
}

/// Checks that the client is still enabled, and may still request what it requested.
async fn confirm_client(tx: &mut PgConnection, request: AccessRequest<'_>) -> Result<()> {
    let AccessRequest { client, access, redirect_uri } = request;
    oauth_clients::lock_unchanged(tx, &client.client_id).await?;
    let current = oauth_clients::find(tx, &client.client_id).await?;
    let current = current.ok_or_else(|| Error::forbidden("This app is disabled"))?;
    let has_redirect_uri = redirect_uri
        .is_none_or(|redirect_uri| current.redirect_uris.iter().any(|it| it.allows(redirect_uri)));
    let has_scopes = access.scope_texts().iter().all(|scope| current.may_request(scope));
    let is_same = has_redirect_uri
        && has_scopes
        && current.visibility == client.visibility
        && current.is_public() == client.is_public()
        && current.application_type == client.application_type;
    if is_same {
        Ok(())
    } else {
        Err(Error::conflict("The app was changed meanwhile; start again in the app"))
    }
}

async fn confirm_organization(
    tx: &mut PgConnection,
    client: &OauthClient,
    person: &Person,
    organization: OrganizationId,
) -> Result<Arc<Caller>> {
    let membership = account_callers::find_caller_in(tx, person, organization).await?;
    let membership = membership.ok_or_else(not_a_member)?;
    membership.require_active()?;
    let permitting = app_policies::filter_permitting(tx, &[organization], client.id).await?;
    let state = (membership.is_suspended, permitting.contains(&organization));
    match GrantObstacle::find(client, organization, state) {
        Some(obstacle) => Err(Error::forbidden(obstacle.message())),
        None => Ok(membership),
    }
}

/// Checks that the account may grant a private client access to itself: it is a member of the
/// client's organization.
async fn confirm_personal(
    tx: &mut PgConnection,
    client: &OauthClient,
    person: &Person,
) -> Result<()> {
    if client.visibility == ClientVisibility::Public {
        return Ok(());
    }
    match account_callers::find_caller_in(tx, person, client.organization).await? {
        Some(_) => Ok(()),
        None => Err(Error::forbidden(GrantObstacle::PrivateClient.message())),
    }
}

/// A grant, and the scopes of it that the client gets tokens for.
pub(super) struct Granted {
    id: GrantId,
    scopes: Vec<String>,
}

/// Returns those of the selected scopes that the membership's role permits; `None` if it permits no
/// access.
pub(super) fn permitted_by(
    membership: Option<&Caller>,
    selected: &[String],
) -> Option<Vec<String>> {
    let scopes = permitted_scopes(selected, membership.and_then(|membership| membership.role));
    let is_access = scopes.iter().any(|scope| scope != OFFLINE_ACCESS);
    is_access.then_some(scopes)
}

/// Creates the grant, or adds to the live one, and records that. The account is locked, so that
/// there is no other transaction that does the same.
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
        if !access.add(&scopes, resources) {
            return Ok(Granted { id, scopes });
        }
        oauth_grants::set_access(tx, (person.account, id), &access, audit.at).await?;
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
    let new = NewCode {
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
