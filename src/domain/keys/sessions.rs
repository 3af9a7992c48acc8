//! Sessions that a key is exchanged for: a short access token, and a refresh token that is good
//! once.
//!
//! A refresh token that comes a second time was stolen, from one side or the other: its session
//! ends for both.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::{address_not_allowed, confirm_caller, origin_not_allowed};
use crate::error::{AuthFailure, Error, Result};
use crate::model::audit::{AuditContext, EventType, NewAuditEvent};
use crate::model::caller::{Caller, Credential, CredentialStatus, Identity, KeyDetails};
use crate::model::ids::{OrganizationId, SessionId};
use crate::model::key_format::KeyFormat;
use crate::model::secret::{Digest, Secret};
use crate::repo::key_sessions::PresentedRefreshToken;
use crate::repo::{audit_events, callers, key_sessions};

/// How long a refresh token lives (contract §2).
const REFRESH_LIFETIME: TimeDelta = TimeDelta::days(7);

/// The tokens of a session.
pub struct SessionTokens {
    /// For requests.
    pub access_token: Secret,
    /// For the next tokens.
    pub refresh_token: Secret,
    /// Seconds that the access token lives.
    pub expires_in: i64,
}

/// Makes a session for the holder of a key.
///
/// # Errors
/// Unauthenticated where the key ended meanwhile.
pub async fn exchange(app: &App, holder: &Caller, audit: &AuditContext) -> Result<SessionTokens> {
    let session = SessionId::new(audit.at, &*app.entropy);
    app.db
        .tenant_transaction(holder.organization, async |tx| {
            let holder = confirm_caller(tx, holder, audit).await?;
            let organization = holder.organization;
            let key = organization_key(&holder)?;
            key_sessions::insert(tx, organization, session, key.id, audit.at).await?;
            let tokens = issue_tokens(app, tx, &holder, session, audit.at).await?;
            let event = NewAuditEvent {
                organization,
                event_type: EventType::SessionCreated,
                actor: &holder.actor(),
                target: &session.to_string(),
                key_display_id: Some(&key.display_id),
                detail: json!({}),
                audit,
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
    if !KeyFormat::refresh_token().matches(presented.expose()) {
        return Err(invalid_refresh_token());
    }
    let candidates = app.peppers.candidates(presented.expose());
    let found = app.db.run(async |db| key_sessions::find_presented(db, &candidates).await).await?;
    let (organization, session) = found.ok_or_else(invalid_refresh_token)?;
    Ok(KnownRefreshToken { organization, session, candidates })
}

fn invalid_refresh_token() -> Error {
    Error::unauthenticated(AuthFailure::InvalidToken, "This refresh token is not valid")
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
    audit: &AuditContext,
) -> Result<SessionTokens> {
    let tokens = app
        .db
        .tenant_transaction(known.organization, async |tx| {
            let token = key_sessions::lock_refresh_token(tx, &known.candidates).await?;
            let Some(token) = token else { return Ok(None) };
            if token.is_spent {
                revoke_for_reuse(tx, &token, audit).await?;
                return Ok(None);
            }
            let holder =
                callers::find_by_sessions(tx, &[token.session]).await?.remove(&token.session);
            let Some(CredentialStatus::Valid(Identity { caller: Some(holder), .. })) =
                holder.filter(|_| !token.is_expired)
            else {
                return Ok(None);
            };
            if !organization_key(&holder)?.allowed_ips.allows(audit.address) {
                return Err(address_not_allowed(audit.address));
            }
            if !organization_key(&holder)?.allows_origin(origin, &app.config.http.trusted_origins) {
                return Err(origin_not_allowed());
            }
            holder.require_active()?;
            let (organization, session) = (token.organization, token.session);
            key_sessions::consume_refresh_token(tx, organization, session, audit.at).await?;
            issue_tokens(app, tx, &holder, session, audit.at).await.map(Some)
        })
        .await?;
    tokens.ok_or_else(invalid_refresh_token)
}

/// The organization's own key that the caller shows: a person's token is exchanged for nothing.
fn organization_key(caller: &Caller) -> Result<&KeyDetails> {
    match &caller.credential {
        Credential::Key(key, _) => Ok(key),
        _ => Err(Error::forbidden("Only an organization's own key can be exchanged")),
    }
}

async fn issue_tokens(
    app: &App,
    tx: &mut PgConnection,
    holder: &Caller,
    session: SessionId,
    now: DateTime<Utc>,
) -> Result<SessionTokens> {
    let refresh = KeyFormat::refresh_token().mint(&*app.entropy);
    let (digest, _) = app.peppers.digest(refresh.expose());
    let expires_at = now + REFRESH_LIFETIME;
    let organization = holder.organization;
    key_sessions::insert_refresh_token(tx, organization, session, digest, now, expires_at).await?;
    Ok(SessionTokens {
        access_token: app.access_tokens.issue_for_key_session(
            session,
            &holder.membership_handle,
            now,
        )?,
        refresh_token: refresh,
        expires_in: app.access_tokens.key_token_lifetime().num_seconds(),
    })
}

async fn revoke_for_reuse(
    tx: &mut PgConnection,
    token: &PresentedRefreshToken,
    audit: &AuditContext,
) -> Result<()> {
    if key_sessions::revoke(tx, token.organization, token.session, audit.at).await? {
        let event = NewAuditEvent {
            organization: token.organization,
            event_type: EventType::SessionRevokedByReuse,
            actor: &token.key.to_string(),
            target: &token.session.to_string(),
            key_display_id: None,
            detail: json!({}),
            audit,
        };
        audit_events::insert(tx, &event).await?;
    }
    Ok(())
}
