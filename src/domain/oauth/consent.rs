//! A person's answer to an authorization request. Everything that it depends on is read again in
//! the transaction that issues the code.

use std::time::Duration;

use sqlx::PgConnection;

use crate::app::App;
use crate::domain::oauth::consent_locks::{lock_all, sign_in_again};
use crate::domain::oauth::grant_creation::{find_granted, insert_code, permitted_by, record_grant};
use crate::domain::oauth::pending_request::{PendingRequest, consume};
use crate::error::{Error, Issue, Result};
use crate::model::audit::AuditContext;
use crate::model::caller::Person;
use crate::model::ids::{OrganizationId, SessionId};
use crate::model::key_format::KeyFormat;
use crate::model::oauth::authorization_response::{
    AuthorizationError, AuthorizationErrorCode, AuthorizationResponse,
};
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::grant::{GrantCandidate, GrantObstacle};
use crate::model::organization_handle::OrganizationHandle;
use crate::repo::{account_callers, app_policies, oauth_grants};

/// For how long a code can be exchanged.
const CODE_LIFETIME: Duration = Duration::from_mins(1);

/// What a person grants.
pub struct Approval {
    /// The organization; `None` if every scope is about the person's own account.
    pub organization: Option<OrganizationHandle>,
    /// The granted scopes; `None` for all that are requested.
    pub scopes: Option<Vec<String>>,
    /// Whether the person granted it before and is not asked. Then the grant must still be there.
    pub is_remembered: bool,
}

/// Returns the organizations in which a person's session acts, each with the obstacle to granting
/// the client access.
///
/// # Errors
/// The errors of the database.
pub async fn list_candidates(
    db: &mut PgConnection,
    client: &OauthClient,
    person: &Person,
) -> Result<Vec<(GrantCandidate, Option<GrantObstacle>)>> {
    let mut candidates = oauth_grants::list_candidates(db, person.account, client.id).await?;
    candidates.retain(|it| person.pinned_to.is_none_or(|pinned_to| pinned_to == it.organization));
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
        consume(tx, pending, session, audit.at).await
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
        let organization = approval.organization.as_ref();
        let membership = match lock_all(tx, request, caller, organization, audit).await? {
            Ok(membership) => membership,
            Err(rejection) => return Ok(Err(rejection)),
        };
        if pending.requires_sign_in(tx, caller).await? {
            return Err(sign_in_again());
        }
        consume(tx, pending, caller.1, audit.at).await?;
        let Some(scopes) =
            permitted_by((request.client, caller.0), membership.as_deref(), &selected)
        else {
            return Ok(Ok(None));
        };
        let granted = if approval.is_remembered {
            find_granted(tx, (request, caller.0), (membership.as_deref(), scopes)).await?
        } else {
            record_grant(app, tx, (request, caller.0), (membership, scopes), audit).await?
        };
        let code = KeyFormat::oauth_code().generate(&*app.entropy);
        let digest = app.peppers.digest(code.expose()).0;
        let of = (digest, CODE_LIFETIME, Some(&pending.request));
        insert_code(tx, request, of, (caller, &granted)).await?;
        Ok(Ok(Some(code)))
    });
    let code = outcome.await??;
    app.mail_waker.notify_one();
    Ok(match code {
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
