//! People's sessions: started by signing in or up, and ended, one by one or all.

use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::accounts::record;
use crate::error::{Error, Result};
use crate::model::audit::{EventType, Trail};
use crate::model::caller::Person;
use crate::model::ids::{AccountId, SessionId};
use crate::model::key_format::KeyFormat;
use crate::model::secret::Secret;
use crate::model::session::{Client, NewSession};
use crate::repo::{accounts, people, sessions};

/// A session just started, and the only place its secrets ever are.
pub struct Started {
    /// The session.
    pub id: SessionId,
    /// For the cookie.
    pub cookie: Secret,
    /// Whether the browser is to keep the cookie when it closes.
    pub is_remembered: bool,
    /// For `Authorization`: an access token that is worth as much as the session, for a day.
    pub token: Secret,
}

/// Starts a session. Whose it is was proven by whoever asks.
///
/// # Errors
/// The database's own.
pub async fn start(
    app: &App,
    tx: &mut PgConnection,
    account: AccountId,
    (client, is_remembered): (&Client, bool),
    trail: &Trail,
) -> Result<Started> {
    let id = SessionId::new(trail.at, &*app.entropy);
    let cookie = KeyFormat::of_sessions().mint(&*app.entropy);
    let (digest, _) = app.peppers.digest(cookie.expose());
    let session = NewSession { id, account, digest, client, is_remembered, created_at: trail.at };
    sessions::insert(tx, &session).await?;
    record(tx, account, EventType::SessionCreated, &id.to_string(), json!({}), trail).await?;
    let token = app.access_tokens.issue_to_account(id, account, trail.at)?;
    Ok(Started { id, cookie, is_remembered, token })
}

/// Ends the session that asks; one that is over already stays as it is.
///
/// # Errors
/// The database's own.
pub async fn sign_out(
    tx: &mut PgConnection,
    person: &Person,
    this: SessionId,
    trail: &Trail,
) -> Result<()> {
    revoke(tx, person, this, trail).await.map(|_| ())
}

/// Ends one of the person's sessions at once; `this` is the one that asks.
///
/// # Errors
/// Not found where it is none of theirs, or over; unauthenticated where the one that asks ended
/// meanwhile.
pub async fn end(
    tx: &mut PgConnection,
    (person, this): (&Person, SessionId),
    id: SessionId,
    trail: &Trail,
) -> Result<()> {
    confirm(tx, person, this).await?;
    if revoke(tx, person, id, trail).await? {
        return Ok(());
    }
    Err(Error::not_found("There is no such session"))
}

async fn revoke(
    tx: &mut PgConnection,
    person: &Person,
    id: SessionId,
    trail: &Trail,
) -> Result<bool> {
    let is_ended = sessions::revoke(tx, person.account, id, trail.at).await?;
    if is_ended {
        let (event, target) = (EventType::SessionRevoked, id.to_string());
        record(tx, person.account, event, &target, json!({}), trail).await?;
    }
    Ok(is_ended)
}

/// The session that asks is good still. Its account is held first: of two sessions that end each
/// other, one does.
async fn confirm(tx: &mut PgConnection, person: &Person, this: SessionId) -> Result<()> {
    accounts::lock(tx, person.account).await?;
    people::confirm_session(tx, None, this).await.map(|_| ())
}

/// Ends every session of the person but the one that asks.
///
/// # Errors
/// Unauthenticated where that one ended meanwhile.
pub async fn end_others(
    tx: &mut PgConnection,
    (person, this): (&Person, SessionId),
    trail: &Trail,
) -> Result<u64> {
    confirm(tx, person, this).await?;
    let ended = sessions::revoke_all(tx, person.account, Some(this), trail.at).await?;
    if ended > 0 {
        let detail = json!({ "count": ended });
        let account = person.account.to_string();
        record(tx, person.account, EventType::SessionsRevoked, &account, detail, trail).await?;
    }
    Ok(ended)
}
