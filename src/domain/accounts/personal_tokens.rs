//! Personal access tokens: credentials that an account creates for its own scripts. Creating,
//! updating and revoking them needs a session; a token cannot create tokens.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::accounts::events::record_account_event;
use crate::domain::mail;
use crate::error::{Error, Issue, Result};
use crate::model::ValidationError;
use crate::model::audit::{AuditContext, AuditEventType};
use crate::model::audit_detail::diff;
use crate::model::caller::{Person, organization_suspended, sso_session_scoped};
use crate::model::ids::{KeyId, MembershipId, OrganizationId, SessionId};
use crate::model::mail::SecurityNotice;
use crate::model::names::KeyName;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::personal_token::{NewPersonalToken, PersonalToken};
use crate::model::scope::{BuiltInScope, ScopeSet};
use crate::model::secret::Secret;
use crate::model::timestamp;
use crate::repo::{account_callers, organizations, personal_tokens};

/// The attributes of a personal access token to create.
pub struct TokenSpec {
    /// Its name.
    pub name: KeyName,
    /// Its scopes.
    pub scopes: ScopeSet,
    /// When it expires; `None` means never.
    pub expires_at: Option<DateTime<Utc>>,
    /// The organization to pin it to, as the client named it. A text that is not a valid id is
    /// rejected like an organization that the account is not a member of.
    pub organization: Option<Result<OrganizationHandle, ValidationError>>,
}

/// A new personal access token and its text, which is stored nowhere.
pub struct CreatedToken {
    /// The text, which the response shows once.
    pub secret: Secret,
    /// Its data.
    pub token: PersonalToken,
}

/// Creates a personal access token.
///
/// # Errors
/// Unauthenticated if the session has ended meanwhile; forbidden if the account is not a member of
/// the organization to pin the token to, even if no such organization exists; suspended if the
/// organization is suspended.
pub async fn create(
    app: &App,
    tx: &mut PgConnection,
    (person, session): (&Person, SessionId),
    spec: TokenSpec,
    audit: &AuditContext,
) -> Result<CreatedToken> {
    account_callers::lock_and_confirm_session(tx, None, session).await?;
    let pinned_to = find_pinned_organization(tx, person, spec.organization.as_ref()).await?;
    check_scopes(person, &spec.scopes)?;
    let format = &app.config.accounts.token_format;
    let secret = format.generate(&*app.entropy);
    let (digest, pepper_id) = app.peppers.digest(secret.expose());
    let new = NewPersonalToken {
        id: KeyId::new(audit.at, &*app.entropy),
        account: person.account,
        pinned_to,
        digest,
        pepper_id,
        prefix: format.prefix(),
        display_id: format.display_id(secret.expose()).unwrap_or_default(),
        name: &spec.name,
        scopes: &spec.scopes,
        created_at: audit.at,
        expires_at: spec.expires_at,
    };
    let token = personal_tokens::insert(tx, &new).await?;
    let detail = json!({
        "display_id": token.display_id,
        "name": token.name,
        "scopes": token.scopes.to_stored(),
        "is_pinned": token.organization_handle.is_some(),
        "expires_at": token.expires_at.map(timestamp::format),
        "never_expires": token.expires_at.is_none(),
    });
    record_token_event(tx, person, AuditEventType::PersonalTokenCreated, new.id, detail, audit)
        .await?;
    mail::queue_notice(app, tx, (SecurityNotice::TokenCreated, person.account), audit.at).await?;
    Ok(CreatedToken { secret, token })
}

/// Checks that a token does not reach further than the session that it is created in: a session of
/// single sign-on does not change the account.
fn check_scopes(person: &Person, scopes: &ScopeSet) -> Result<()> {
    if person.is_in_sso_session() && scopes.grants(BuiltInScope::UserWrite) {
        let message = "must not cover user:write in a session of single sign-on";
        return Err(Error::invalid(vec![Issue::field("scopes", message)]));
    }
    Ok(())
}

/// Returns the organization to pin a token to and the account's membership in it, `None` if no
/// organization is named.
///
/// # Errors
/// Forbidden if the account is not a member of that organization, even if no such organization
/// exists; suspended if the organization is suspended. In a session of single sign-on, its
/// organization must be named.
pub async fn find_pinned_organization(
    tx: &mut PgConnection,
    person: &Person,
    organization: Option<&Result<OrganizationHandle, ValidationError>>,
) -> Result<Option<(OrganizationId, MembershipId)>> {
    let Some(handle) = organization else {
        return if person.pinned_to.is_none() { Ok(None) } else { Err(sso_session_scoped()) };
    };
    let not_a_member = || Error::forbidden("Your account is not a member of this organization");
    let handle = handle.as_ref().map_err(|_| not_a_member())?;
    let membership = organizations::find_membership(tx, person.account, handle).await?;
    let membership = membership.ok_or_else(not_a_member)?;
    if person.pinned_to.is_some_and(|pinned_to| pinned_to != membership.organization) {
        return Err(sso_session_scoped());
    }
    if membership.is_suspended {
        return Err(organization_suspended());
    }
    Ok(Some((membership.organization, membership.id)))
}

/// Returns one of the account's tokens.
///
/// # Errors
/// Not found if it belongs to another account or was revoked.
pub async fn find(tx: &mut PgConnection, person: &Person, id: KeyId) -> Result<PersonalToken> {
    let token = personal_tokens::find(tx, person.reach(), id).await?;
    token.ok_or_else(no_such_token)
}

/// Updates the name and the scopes of a token; `None` leaves them unchanged.
///
/// # Errors
/// Not found; unauthenticated if the session has ended meanwhile.
pub async fn update(
    tx: &mut PgConnection,
    (person, session): (&Person, SessionId),
    id: KeyId,
    (name, scopes): (Option<&KeyName>, Option<&ScopeSet>),
    audit: &AuditContext,
) -> Result<PersonalToken> {
    account_callers::lock_and_confirm_session(tx, None, session).await?;
    scopes.map_or(Ok(()), |scopes| check_scopes(person, scopes))?;
    let before = find(tx, person, id).await?;
    let token = personal_tokens::update(tx, person.reach(), id, (name, scopes), audit.at).await?;
    let token = token.ok_or_else(no_such_token)?;
    let mut detail = diff(audited_fields(&before), audited_fields(&token));
    detail["display_id"] = json!(token.display_id);
    record_token_event(tx, person, AuditEventType::PersonalTokenUpdated, id, detail, audit).await?;
    Ok(token)
}

/// Returns the fields that can be updated, as the audit log shows them.
fn audited_fields(token: &PersonalToken) -> serde_json::Value {
    json!({ "name": token.name, "scopes": token.scopes.to_stored() })
}

/// Revokes a token, which stops working immediately.
///
/// # Errors
/// Not found; unauthenticated if the session has ended meanwhile.
pub async fn revoke(
    tx: &mut PgConnection,
    (person, session): (&Person, SessionId),
    id: KeyId,
    audit: &AuditContext,
) -> Result<()> {
    account_callers::lock_and_confirm_session(tx, None, session).await?;
    let token = find(tx, person, id).await?;
    if !personal_tokens::revoke(tx, person.reach(), id, audit.at).await? {
        return Err(no_such_token());
    }
    let detail = json!({ "display_id": token.display_id, "name": token.name });
    record_token_event(tx, person, AuditEventType::PersonalTokenRevoked, id, detail, audit).await
}

fn no_such_token() -> Error {
    Error::not_found("There is no such token")
}

async fn record_token_event(
    tx: &mut PgConnection,
    person: &Person,
    event_type: AuditEventType,
    id: KeyId,
    detail: serde_json::Value,
    audit: &AuditContext,
) -> Result<()> {
    record_account_event(tx, person.account, event_type, &id.to_string(), detail, audit).await
}
