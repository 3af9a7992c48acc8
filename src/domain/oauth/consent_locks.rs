//! What a consent depends on: it is locked and read again before anything is granted.

use std::sync::Arc;

use serde_json::json;
use sqlx::PgConnection;

use crate::domain::oauth::pending_request::AccessRequest;
use crate::error::{AuthFailure, Error, ErrorKind, Issue, Result};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::caller::{Caller, Person, sso_session_scoped};
use crate::model::ids::{OrganizationId, SessionId};
use crate::model::oauth::ClientVisibility;
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::grant::GrantObstacle;
use crate::model::organization_handle::OrganizationHandle;
use crate::repo::{
    account_callers, accounts, app_policies, audit_events, oauth_clients, organizations,
};

/// The status of the response to an attempt that a policy rejects.
const FORBIDDEN: u16 = 403;

/// Locks what the grant depends on, in the order that every transaction uses, and checks it.
/// Returns the membership in the chosen organization.
///
/// # Errors
/// The inner error is forbidden, and means that the organization's policy excludes the client: that
/// is recorded, so the transaction must be committed before the error is returned.
pub(super) async fn lock_all(
    tx: &mut PgConnection,
    request: AccessRequest<'_>,
    (person, session): (&Person, SessionId),
    organization: Option<&OrganizationHandle>,
    audit: &AuditContext,
) -> Result<Result<Option<Arc<Caller>>>> {
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
            let confirmed =
                confirm_organization(tx, request.client, person, organization, audit).await?;
            Ok(confirmed.map(Some))
        }
        None if person.pinned_to.is_some() => Err(sso_session_scoped()),
        None => confirm_personal(tx, request.client, person).await.map(|()| Ok(None)),
    }
}

/// Returns the error for a session that has ended, or is too old for the request.
pub(super) fn sign_in_again() -> Error {
    Error::unauthenticated(AuthFailure::InvalidToken, "Sign in again to answer this request")
}

fn not_a_member() -> Error {
    Error::forbidden("Your account is not a member of this organization")
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
    oauth_clients::lock_for_share(tx, &client.client_id).await?;
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
    audit: &AuditContext,
) -> Result<Result<Arc<Caller>>> {
    let membership = account_callers::find_caller_in(tx, person, organization).await?;
    let membership = membership.ok_or_else(not_a_member)?;
    membership.require_active()?;
    let permitting = app_policies::filter_permitting(tx, &[organization], client.id).await?;
    let state = (membership.is_suspended, permitting.contains(&organization));
    let Some(obstacle) = GrantObstacle::find(client, organization, state) else {
        return Ok(Ok(membership));
    };
    if obstacle == GrantObstacle::Policy {
        record_rejection(tx, client, &membership, audit).await?;
        return Ok(Err(Error::forbidden(obstacle.message())));
    }
    Err(Error::forbidden(obstacle.message()))
}

/// Records in the audit log of an organization that its policy excludes a client.
async fn record_rejection(
    tx: &mut PgConnection,
    client: &OauthClient,
    membership: &Caller,
    audit: &AuditContext,
) -> Result<()> {
    let audit = &AuditContext { status: Some(FORBIDDEN), ..audit.clone() };
    let event = NewAuditEvent {
        organization: membership.organization,
        event_type: AuditEventType::AppGrantRejected,
        actor: &membership.membership_handle,
        target: &client.client_id,
        key_display_id: None,
        detail: json!({ "client_id": client.client_id, "client_name": client.name }),
        audit,
    };
    audit_events::insert(tx, &event).await
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
