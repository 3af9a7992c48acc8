//! Sessions of accounts: started by signing in or up, and ended, one or all.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::accounts::events::record_account_event;
use crate::error::{Error, Result};
use crate::model::audit::{AuditContext, EventType};
use crate::model::caller::Person;
use crate::model::ids::{AccountId, SessionId};
use crate::model::key_format::KeyFormat;
use crate::model::secret::Secret;
use crate::model::session::{NewSession, SessionClient};
use crate::repo::{account_callers, accounts, sessions};

/// A session that was just started, with its secrets, which are nowhere else.
pub struct StartedSession {
    /// The session.
    pub id: SessionId,
    /// For the cookie.
    pub cookie: Secret,
    /// Whether the browser is to keep the cookie when it closes.
    pub is_remembered: bool,
    /// For `Authorization`: an access token that is worth as much as the session, for a day.
    pub token: Secret,
}

/// Starts a session. The caller has verified the account's credential.
pub async fn start_session(
    app: &App,
    tx: &mut PgConnection,
    account: AccountId,
    (client, is_remembered): (&SessionClient, bool),
    audit: &AuditContext,
) -> Result<StartedSession> {
    let id = SessionId::new(audit.at, &*app.entropy);
    let cookie = KeyFormat::session_token().mint(&*app.entropy);
    let (digest, _) = app.peppers.digest(cookie.expose());
    let session = NewSession { id, account, digest, client, is_remembered, created_at: audit.at };
    sessions::insert(tx, &session).await?;
    record_account_event(tx, account, EventType::SessionCreated, &id.to_string(), json!({}), audit)
        .await?;
    let token = app.access_tokens.issue_for_account(id, account, audit.at)?;
    Ok(StartedSession { id, cookie, is_remembered, token })
}

/// Ends the current session; one that has ended already is left unchanged.
pub async fn sign_out(
    tx: &mut PgConnection,
    person: &Person,
    this: SessionId,
    audit: &AuditContext,
) -> Result<()> {
    revoke_and_record(tx, person, this, audit).await.map(|_| ())
}

/// Ends one of the account's sessions; `this` is the current one.
///
/// # Errors
/// Not found where it is not the account's, or has ended; unauthenticated where the current one
/// ended meanwhile.
pub async fn revoke_session(
    tx: &mut PgConnection,
    (person, this): (&Person, SessionId),
    id: SessionId,
    audit: &AuditContext,
) -> Result<()> {
    lock_and_confirm_session(tx, person, this).await?;
    if revoke_and_record(tx, person, id, audit).await? {
        return Ok(());
    }
    Err(Error::not_found("There is no such session"))
}

async fn revoke_and_record(
    tx: &mut PgConnection,
    person: &Person,
    id: SessionId,
    audit: &AuditContext,
) -> Result<bool> {
    let is_ended = sessions::revoke(tx, person.account, id, audit.at).await?;
    if is_ended {
        let (event, target) = (EventType::SessionRevoked, id.to_string());
        record_account_event(tx, person.account, event, &target, json!({}), audit).await?;
    }
    Ok(is_ended)
}

/// Confirms that the current session is still valid. Its account is locked first: of two sessions
/// that end each other, one succeeds.
async fn lock_and_confirm_session(
    tx: &mut PgConnection,
    person: &Person,
    this: SessionId,
) -> Result<()> {
    accounts::lock(tx, person.account).await?;
    account_callers::lock_and_confirm_session(tx, None, this).await.map(|_| ())
}

/// Ends every session of the account except the current one.
///
/// # Errors
/// Unauthenticated where that one ended meanwhile.
pub async fn revoke_other_sessions(
    tx: &mut PgConnection,
    (person, this): (&Person, SessionId),
    audit: &AuditContext,
) -> Result<u64> {
    lock_and_confirm_session(tx, person, this).await?;
    let ended = sessions::revoke_all(tx, person.account, Some(this), audit.at).await?;
    if ended > 0 {
        let detail = json!({ "count": ended });
        let account = person.account.to_string();
        record_account_event(
            tx,
            person.account,
            EventType::SessionsRevoked,
            &account,
            detail,
            audit,
        )
        .await?;
    }
    Ok(ended)
}
