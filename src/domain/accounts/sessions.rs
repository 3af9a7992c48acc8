//! Sessions of accounts: start, sign out, revoke one, revoke all others.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::accounts::events::record_account_event;
use crate::error::{Error, Result};
use crate::model::account_reach::AccountReach;
use crate::model::audit::{AuditContext, AuditEventType};
use crate::model::caller::Person;
use crate::model::ids::{AccountId, SessionId};
use crate::model::key_format::KeyFormat;
use crate::model::secret::Secret;
use crate::model::session::{NewSession, SessionClient, SsoSession};
use crate::repo::{account_callers, accounts, sessions};

/// A new session with its secrets, which are stored nowhere.
pub struct StartedSession {
    /// Its id.
    pub id: SessionId,
    /// The value of the session cookie.
    pub cookie: Secret,
    /// Whether the browser keeps the cookie when it is closed.
    pub is_remembered: bool,
    /// An access token for the `Authorization` header, with the rights of the session, for 24
    /// hours.
    pub token: Secret,
}

/// Starts a session. The caller has verified the account's credential.
pub async fn start_session(
    app: &App,
    tx: &mut PgConnection,
    account: AccountId,
    client: (&SessionClient, bool),
    audit: &AuditContext,
) -> Result<StartedSession> {
    start(app, tx, (account, None), client, audit).await
}

/// Starts a session that single sign-on begins. The browser discards its cookie when it closes.
pub async fn start_sso_session(
    app: &App,
    tx: &mut PgConnection,
    (account, sso): (AccountId, SsoSession),
    client: &SessionClient,
    audit: &AuditContext,
) -> Result<StartedSession> {
    start(app, tx, (account, Some(sso)), (client, false), audit).await
}

async fn start(
    app: &App,
    tx: &mut PgConnection,
    (account, sso): (AccountId, Option<SsoSession>),
    (client, is_remembered): (&SessionClient, bool),
    audit: &AuditContext,
) -> Result<StartedSession> {
    let id = SessionId::new(audit.at, &*app.entropy);
    let format = match sso {
        None => KeyFormat::session_token(),
        Some(_) => KeyFormat::sso_session_token(),
    };
    let cookie = format.generate(&*app.entropy);
    let (digest, _) = app.peppers.digest(cookie.expose());
    let created_at = audit.at;
    let session = NewSession { id, account, digest, client, is_remembered, sso, created_at };
    sessions::insert(tx, &session).await?;
    // The organization of the connection records the other sessions.
    if sso.is_none() {
        let (event, target) = (AuditEventType::SessionCreated, id.to_string());
        record_account_event(tx, account, event, &target, json!({}), audit).await?;
    }
    let token = app.access_tokens.issue_for_account(id, account, audit.at)?;
    Ok(StartedSession { id, cookie, is_remembered, token })
}

/// Revokes the current session. A session that has already ended is left unchanged.
pub async fn sign_out(
    tx: &mut PgConnection,
    person: &Person,
    this: SessionId,
    audit: &AuditContext,
) -> Result<()> {
    let own = (person.account, AccountReach::all_of(person.account));
    revoke_and_record(tx, own, this, audit).await.map(|_| ())
}

/// Revokes one of the account's sessions; `this` is the current one.
///
/// # Errors
/// Not found if the session belongs to another account, has ended, or is out of the credential's
/// reach; unauthenticated if the current
/// session has ended meanwhile.
pub async fn revoke_session(
    tx: &mut PgConnection,
    (person, this): (&Person, SessionId),
    id: SessionId,
    audit: &AuditContext,
) -> Result<()> {
    lock_and_confirm_session(tx, person, this).await?;
    if revoke_and_record(tx, (person.account, person.reach()), id, audit).await? {
        return Ok(());
    }
    Err(Error::not_found("There is no such session"))
}

async fn revoke_and_record(
    tx: &mut PgConnection,
    (account, reach): (AccountId, AccountReach),
    id: SessionId,
    audit: &AuditContext,
) -> Result<bool> {
    let is_revoked = sessions::revoke(tx, reach, id, audit.at).await?;
    if is_revoked {
        let (event, target) = (AuditEventType::SessionRevoked, id.to_string());
        record_account_event(tx, account, event, &target, json!({}), audit).await?;
    }
    Ok(is_revoked)
}

/// Confirms that the current session is still valid. Its account is locked first, so that of two
/// sessions that revoke each other, one succeeds.
async fn lock_and_confirm_session(
    tx: &mut PgConnection,
    person: &Person,
    this: SessionId,
) -> Result<()> {
    accounts::lock(tx, person.account).await?;
    account_callers::lock_and_confirm_session(tx, None, this).await.map(|_| ())
}

/// Revokes every session of the account except the current one, and returns their number.
///
/// # Errors
/// Unauthenticated if the current session has ended meanwhile.
pub async fn revoke_other_sessions(
    tx: &mut PgConnection,
    (person, this): (&Person, SessionId),
    audit: &AuditContext,
) -> Result<u64> {
    lock_and_confirm_session(tx, person, this).await?;
    let revoked = sessions::revoke_all(tx, person.reach(), Some(this), audit.at).await?;
    if revoked > 0 {
        let detail = json!({ "count": revoked });
        let account = person.account.to_string();
        record_account_event(
            tx,
            person.account,
            AuditEventType::SessionsRevoked,
            &account,
            detail,
            audit,
        )
        .await?;
    }
    Ok(revoked)
}
