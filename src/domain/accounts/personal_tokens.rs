//! Personal access tokens: keys that a person makes for their own scripts, in a session only.
//! Tokens make no tokens.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::accounts::events::record_account_event;
use crate::domain::mail;
use crate::error::{Error, Result};
use crate::model::ValidationError;
use crate::model::audit::{AuditContext, EventType};
use crate::model::audit_detail::diff;
use crate::model::caller::{Person, organization_suspended};
use crate::model::ids::{KeyId, MembershipId, OrganizationId, SessionId};
use crate::model::key_name::KeyName;
use crate::model::mail::SecurityNotice;
use crate::model::org_handle::OrgHandle;
use crate::model::personal_token::{NewPersonalToken, PersonalToken};
use crate::model::scope::ScopeSet;
use crate::model::secret::Secret;
use crate::model::timestamp;
use crate::repo::{account_callers, organizations, personal_tokens};

/// What a personal token is to be.
pub struct TokenSpec {
    /// Its label.
    pub name: KeyName,
    /// What it may do.
    pub scopes: ScopeSet,
    /// When it ends; `None` is never.
    pub expires_at: Option<DateTime<Utc>>,
    /// The organization that it is to be pinned to, as callers name it; what can be no id of one
    /// is nobody's organization.
    pub organization: Option<Result<OrgHandle, ValidationError>>,
}

/// A new personal token, and the only place its text ever is.
pub struct CreatedToken {
    /// The text, to be shown once.
    pub secret: Secret,
    /// What may be shown again.
    pub token: PersonalToken,
}

/// Makes a personal token.
///
/// # Errors
/// Unauthenticated where the session ended meanwhile; forbidden where the person has no seat in the
/// organization that the token is to be pinned to, whether it exists or not; suspended where that
/// is.
pub async fn create(
    app: &App,
    tx: &mut PgConnection,
    (person, session): (&Person, SessionId),
    spec: TokenSpec,
    audit: &AuditContext,
) -> Result<CreatedToken> {
    account_callers::lock_and_confirm_session(tx, None, session).await?;
    let pinned_to = find_pinned_organization(tx, person, spec.organization.as_ref()).await?;
    let format = &app.config.accounts.token_format;
    let secret = format.mint(&*app.entropy);
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
    personal_tokens::insert(tx, &new).await?;
    let token = find(tx, person, new.id).await?;
    let detail = json!({
        "display_id": token.display_id,
        "name": token.name,
        "scopes": token.scopes.to_stored(),
        "is_pinned": token.organization_handle.is_some(),
        "expires_at": token.expires_at.map(timestamp::format),
        "never_expires": token.expires_at.is_none(),
    });
    record_token_event(tx, person, EventType::PersonalTokenCreated, new.id, detail, audit).await?;
    mail::queue_notice(app, tx, (SecurityNotice::TokenCreated, person.account), audit.at).await?;
    Ok(CreatedToken { secret, token })
}

/// The organization that a token is pinned to by this name, if by any.
///
/// # Errors
/// Forbidden where the person has no seat in it, whether it exists or not.
pub async fn find_pinned_organization(
    tx: &mut PgConnection,
    person: &Person,
    organization: Option<&Result<OrgHandle, ValidationError>>,
) -> Result<Option<(OrganizationId, MembershipId)>> {
    let Some(handle) = organization else { return Ok(None) };
    let not_yours = || Error::forbidden("This is not your organization");
    let handle = handle.as_ref().map_err(|_| not_yours())?;
    let seat = organizations::find_membership(tx, person.account, handle).await?;
    let seat = seat.ok_or_else(not_yours)?;
    if seat.is_suspended {
        return Err(organization_suspended());
    }
    Ok(Some((seat.organization, seat.id)))
}

/// One of the person's tokens.
///
/// # Errors
/// Not found where it is none of theirs, or was deleted.
pub async fn find(tx: &mut PgConnection, person: &Person, id: KeyId) -> Result<PersonalToken> {
    let token = personal_tokens::find(tx, person.account, id).await?;
    token.ok_or_else(no_such_token)
}

/// Changes the label and the scopes of a token, where they are given.
///
/// # Errors
/// Not found; unauthenticated where the session ended meanwhile.
pub async fn update(
    tx: &mut PgConnection,
    (person, session): (&Person, SessionId),
    id: KeyId,
    (name, scopes): (Option<&KeyName>, Option<&ScopeSet>),
    audit: &AuditContext,
) -> Result<PersonalToken> {
    account_callers::lock_and_confirm_session(tx, None, session).await?;
    let before = find(tx, person, id).await?;
    if !personal_tokens::update(tx, person.account, id, (name, scopes), audit.at).await? {
        return Err(no_such_token());
    }
    let token = find(tx, person, id).await?;
    let mut detail = diff(audited_fields(&before), audited_fields(&token));
    detail["display_id"] = json!(token.display_id);
    record_token_event(tx, person, EventType::PersonalTokenUpdated, id, detail, audit).await?;
    Ok(token)
}

/// What can be changed of a token, as the audit log shows it.
fn audited_fields(token: &PersonalToken) -> serde_json::Value {
    json!({ "name": token.name, "scopes": token.scopes.to_stored() })
}

/// Ends a token at once.
///
/// # Errors
/// Not found; unauthenticated where the session ended meanwhile.
pub async fn delete(
    tx: &mut PgConnection,
    (person, session): (&Person, SessionId),
    id: KeyId,
    audit: &AuditContext,
) -> Result<()> {
    account_callers::lock_and_confirm_session(tx, None, session).await?;
    let token = find(tx, person, id).await?;
    if !personal_tokens::revoke(tx, person.account, id, audit.at).await? {
        return Err(no_such_token());
    }
    let detail = json!({ "display_id": token.display_id, "name": token.name });
    record_token_event(tx, person, EventType::PersonalTokenRevoked, id, detail, audit).await
}

fn no_such_token() -> Error {
    Error::not_found("There is no such token")
}

async fn record_token_event(
    tx: &mut PgConnection,
    person: &Person,
    event_type: EventType,
    id: KeyId,
    detail: serde_json::Value,
    audit: &AuditContext,
) -> Result<()> {
    record_account_event(tx, person.account, event_type, &id.to_string(), detail, audit).await
}
