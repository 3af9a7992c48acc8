//! Personal access tokens: keys that a person makes for their own scripts, in a session only.
//! Tokens make no tokens.

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::accounts::record;
use crate::domain::mails;
use crate::error::{Error, Result};
use crate::model::Invalid;
use crate::model::audit::{EventType, Trail};
use crate::model::audit_detail::changed;
use crate::model::caller::{Person, suspended};
use crate::model::ids::{KeyId, OrganizationId, SessionId, UserId};
use crate::model::key_name::KeyName;
use crate::model::mail::Notice;
use crate::model::moment;
use crate::model::org_handle::OrgHandle;
use crate::model::personal_token::{NewPersonalToken, PersonalToken};
use crate::model::scope::ScopeSet;
use crate::model::secret::Secret;
use crate::repo::{organizations, people, personal_tokens};

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
    pub organization: Option<Result<OrgHandle, Invalid>>,
}

/// A new personal token, and the only place its text ever is.
pub struct MintedToken {
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
    trail: &Trail,
) -> Result<MintedToken> {
    people::confirm_session(tx, None, session).await?;
    let pinned_to = pin(tx, person, spec.organization.as_ref()).await?;
    let format = &app.config.accounts.token_format;
    let secret = format.mint(&*app.entropy);
    let (digest, pepper_id) = app.peppers.digest(secret.expose());
    let new = NewPersonalToken {
        id: KeyId::new(trail.at, &*app.entropy),
        account: person.account,
        pinned_to,
        digest,
        pepper_id,
        prefix: format.prefix(),
        display_id: format.display_id(secret.expose()).unwrap_or_default(),
        name: &spec.name,
        scopes: &spec.scopes,
        created_at: trail.at,
        expires_at: spec.expires_at,
    };
    personal_tokens::insert(tx, &new).await?;
    let token = find(tx, person, new.id).await?;
    let detail = json!({
        "display_id": token.display_id,
        "name": token.name,
        "scopes": token.scopes.to_stored(),
        "is_pinned": token.organization_handle.is_some(),
        "expires_at": token.expires_at.map(moment::to_text),
        "never_expires": token.expires_at.is_none(),
    });
    note(tx, person, EventType::PersonalTokenCreated, new.id, detail, trail).await?;
    mails::queue_notice(app, tx, (Notice::TokenCreated, person.account), trail.at).await?;
    Ok(MintedToken { secret, token })
}

/// The organization that a token is pinned to by this name, if by any.
///
/// # Errors
/// Forbidden where the person has no seat in it, whether it exists or not.
pub async fn pin(
    tx: &mut PgConnection,
    person: &Person,
    organization: Option<&Result<OrgHandle, Invalid>>,
) -> Result<Option<(OrganizationId, UserId)>> {
    let Some(handle) = organization else { return Ok(None) };
    let not_yours = || Error::forbidden("This is not your organization");
    let handle = handle.as_ref().map_err(|_| not_yours())?;
    let seat = organizations::find_of(tx, person.account, handle).await?;
    let seat = seat.ok_or_else(not_yours)?;
    if seat.is_suspended {
        return Err(suspended());
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
    trail: &Trail,
) -> Result<PersonalToken> {
    people::confirm_session(tx, None, session).await?;
    let before = find(tx, person, id).await?;
    if !personal_tokens::update(tx, person.account, id, (name, scopes), trail.at).await? {
        return Err(no_such_token());
    }
    let token = find(tx, person, id).await?;
    let mut detail = changed(shown(&before), shown(&token));
    detail["display_id"] = json!(token.display_id);
    note(tx, person, EventType::PersonalTokenUpdated, id, detail, trail).await?;
    Ok(token)
}

/// What can be changed of a token, as the audit log shows it.
fn shown(token: &PersonalToken) -> serde_json::Value {
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
    trail: &Trail,
) -> Result<()> {
    people::confirm_session(tx, None, session).await?;
    let token = find(tx, person, id).await?;
    if !personal_tokens::revoke(tx, person.account, id, trail.at).await? {
        return Err(no_such_token());
    }
    let detail = json!({ "display_id": token.display_id, "name": token.name });
    note(tx, person, EventType::PersonalTokenRevoked, id, detail, trail).await
}

fn no_such_token() -> Error {
    Error::not_found("There is no such token")
}

async fn note(
    tx: &mut PgConnection,
    person: &Person,
    event_type: EventType,
    id: KeyId,
    detail: serde_json::Value,
    trail: &Trail,
) -> Result<()> {
    record(tx, person.account, event_type, &id.to_string(), detail, trail).await
}
