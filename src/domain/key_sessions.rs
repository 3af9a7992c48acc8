//! Sessions that a key is exchanged for: a short access token, and a refresh token that is good
//! once.
//!
//! A refresh token that comes a second time was stolen, from one side or the other: its session
//! ends for both.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::{confirm, elsewhere, from_another_page};
use crate::error::{Error, Proof, Result};
use crate::model::audit::{AuditEvent, EventType, Trail};
use crate::model::caller::{Caller, Credential, Holder, Identity, KeyFacts};
use crate::model::ids::{OrganizationId, SessionId};
use crate::model::key_format::KeyFormat;
use crate::model::secret::{Digest, Secret};
use crate::repo::key_sessions::ShownRefreshToken;
use crate::repo::{audit_events, callers, key_sessions};

/// How long a refresh token lives (contract §2).
const REFRESH_LIFETIME: TimeDelta = TimeDelta::days(7);

/// The tokens of a session.
pub struct Tokens {
    /// For requests.
    pub access: Secret,
    /// For the next tokens.
    pub refresh: Secret,
    /// Seconds that the access token lives.
    pub expires_in: i64,
}

/// Makes a session for the holder of a key.
///
/// # Errors
/// Unauthenticated where the key ended meanwhile.
pub async fn exchange(app: &App, holder: &Caller, trail: &Trail) -> Result<Tokens> {
    let session = SessionId::new(trail.at, &*app.entropy);
    app.db
        .tenant(holder.organization, async |tx| {
            let holder = confirm(tx, holder, trail).await?;
            let organization = holder.organization;
            let key = key_of(&holder)?;
            key_sessions::insert(tx, organization, session, key.id, trail.at).await?;
            let tokens = issue(app, tx, &holder, session, trail.at).await?;
            let event = AuditEvent {
                organization,
                event_type: EventType::SessionCreated,
                actor: &holder.actor(),
                target: &session.to_string(),
                key_display_id: Some(&key.display_id),
                detail: json!({}),
                trail,
            };
            audit_events::insert(tx, &event).await?;
            Ok(tokens)
        })
        .await
}

/// A refresh token that is known, good or not.
pub struct KnownRefreshToken {
    /// The organization of its key.
    organization: OrganizationId,
    /// Its session.
    pub session: SessionId,
    candidates: Vec<Digest>,
}

/// Finds a refresh token that somebody presents.
///
/// # Errors
/// Unauthenticated where it is unknown.
pub async fn find_refresh_token(app: &App, presented: &Secret) -> Result<KnownRefreshToken> {
    if !KeyFormat::of_refresh_tokens().recognises(presented.expose()) {
        return Err(refused());
    }
    let candidates = app.peppers.candidates(presented.expose());
    let found = app.db.run(async |db| key_sessions::find_shown(db, &candidates).await).await?;
    let (organization, session) = found.ok_or_else(refused)?;
    Ok(KnownRefreshToken { organization, session, candidates })
}

fn refused() -> Error {
    Error::unauthenticated(Proof::Token, "This refresh token is not valid")
}

/// The next tokens of a session, for its refresh token, which the page `origin` shows, if one does.
///
/// # Errors
/// Unauthenticated where the token is over or spent, or its session or key has ended; a spent one
/// ends the session. Forbidden from where the key may not be used, suspended where its organization
/// is.
pub async fn refresh(
    app: &App,
    known: &KnownRefreshToken,
    origin: Option<&str>,
    trail: &Trail,
) -> Result<Tokens> {
    let tokens = app
        .db
        .tenant(known.organization, async |tx| {
            let token = key_sessions::lock_refresh_token(tx, &known.candidates).await?;
            let Some(token) = token else { return Ok(None) };
            if token.is_spent {
                end_by_reuse(tx, &token, trail).await?;
                return Ok(None);
            }
            let holder = callers::by_sessions(tx, &[token.session]).await?.remove(&token.session);
            let Some(Holder::Good(Identity { caller: Some(holder), .. })) =
                holder.filter(|_| !token.is_expired)
            else {
                return Ok(None);
            };
            if !key_of(&holder)?.allowed_ips.admit(trail.address) {
                return Err(elsewhere(trail.address));
            }
            if !key_of(&holder)?.admits_page(origin, &app.config.http.trusted_origins) {
                return Err(from_another_page());
            }
            holder.require_active()?;
            let (organization, session) = (token.organization, token.session);
            key_sessions::spend_refresh_tokens(tx, organization, session, trail.at).await?;
            issue(app, tx, &holder, session, trail.at).await.map(Some)
        })
        .await?;
    tokens.ok_or_else(refused)
}

/// The organization's own key that the caller shows: a person's token is exchanged for nothing.
fn key_of(caller: &Caller) -> Result<&KeyFacts> {
    match &caller.credential {
        Credential::Key(key, _) => Ok(key),
        _ => Err(Error::forbidden("Only an organization's own key can be exchanged")),
    }
}

async fn issue(
    app: &App,
    tx: &mut PgConnection,
    holder: &Caller,
    session: SessionId,
    now: DateTime<Utc>,
) -> Result<Tokens> {
    let refresh = KeyFormat::of_refresh_tokens().mint(&*app.entropy);
    let (digest, _) = app.peppers.digest(refresh.expose());
    let expires_at = now + REFRESH_LIFETIME;
    let organization = holder.organization;
    key_sessions::insert_refresh_token(tx, organization, session, digest, now, expires_at).await?;
    Ok(Tokens {
        access: app.access_tokens.issue_to_key(session, &holder.user_handle, now)?,
        refresh,
        expires_in: app.access_tokens.key_token_lifetime().num_seconds(),
    })
}

async fn end_by_reuse(
    tx: &mut PgConnection,
    token: &ShownRefreshToken,
    trail: &Trail,
) -> Result<()> {
    if key_sessions::revoke(tx, token.organization, token.session, trail.at).await? {
        let event = AuditEvent {
            organization: token.organization,
            event_type: EventType::SessionRevokedByReuse,
            actor: &token.key.to_string(),
            target: &token.session.to_string(),
            key_display_id: None,
            detail: json!({}),
            trail,
        };
        audit_events::insert(tx, &event).await?;
    }
    Ok(())
}
