//! Key sessions: an API key is exchanged for a short-lived access token and a refresh token that
//! can be used once.
//!
//! A refresh token that is presented a second time was stolen or replayed. Its session ends,
//! because the server cannot tell which client is the legitimate one.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::PgConnection;

use crate::app::App;
use crate::domain::keys::{address_not_allowed, confirm_caller, origin_not_allowed};
use crate::error::{AuthFailure, Error, Result};
use crate::model::audit::{AuditContext, AuditEventType, NewAuditEvent};
use crate::model::caller::{Caller, Credential, CredentialStatus, Identity, KeyDetails};
use crate::model::ids::{OrganizationId, SessionId};
use crate::model::key_format::KeyFormat;
use crate::model::secret::{Digest, Secret};
use crate::repo::key_sessions::PresentedRefreshToken;
use crate::repo::{audit_events, callers, key_sessions};

/// The lifetime of a refresh token.
const REFRESH_LIFETIME: TimeDelta = TimeDelta::days(7);

/// The tokens of a session.
pub struct SessionTokens {
    /// Authenticates requests.
    pub access_token: Secret,
    /// Is exchanged for the next tokens, once.
    pub refresh_token: Secret,
    /// The lifetime of the access token, in seconds.
    pub expires_in: i64,
}

/// Creates a session for a caller with a key, and returns its tokens.
///
/// # Errors
/// Unauthenticated if the key has ended meanwhile; forbidden if the credential is not a key.
pub async fn exchange(app: &App, caller: &Caller, audit: &AuditContext) -> Result<SessionTokens> {
    let session = SessionId::new(audit.at, &*app.entropy);
    app.db
        .tenant_transaction(caller.organization, async |tx| {
            let caller = confirm_caller(tx, caller, audit).await?;
            let organization = caller.organization;
            let key = organization_key(&caller)?;
            key_sessions::insert(tx, organization, session, key.id, audit.at).await?;
            let tokens = issue_tokens(app, tx, &caller, session, audit.at).await?;
            let event = NewAuditEvent {
                organization,
                event_type: AuditEventType::SessionCreated,
                actor: &caller.actor(),
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

/// A refresh token that exists in the database, valid or not.
pub struct KnownRefreshToken {
    /// The organization of its key.
    organization: OrganizationId,
    /// Its session.
    pub session: SessionId,
    candidates: Vec<Digest>,
}

/// Finds the refresh token that a client presents.
///
/// # Errors
/// Unauthenticated if it is unknown.
pub async fn find_refresh_token(app: &App, presented: &Secret) -> Result<KnownRefreshToken> {
    if !KeyFormat::refresh_token().matches(presented.expose()) {
        return Err(invalid_refresh_token());
    }
    let candidates = app.peppers.candidates(presented.expose());
    let session =
        app.db.run(async |db| key_sessions::find_presented(db, &candidates).await).await?;
    let (organization, session) = session.ok_or_else(invalid_refresh_token)?;
    Ok(KnownRefreshToken { organization, session, candidates })
}

fn invalid_refresh_token() -> Error {
    Error::unauthenticated(AuthFailure::InvalidToken, "This refresh token is not valid")
}

/// Returns the next tokens of a session in exchange for its refresh token. `origin` is the browser
/// origin of the request, if it has one.
///
/// # Errors
/// Unauthenticated if the token is expired or was used before, or if its session or key has ended;
/// a token that was used before ends the session. Forbidden from an address or origin that the key
/// may not be used from; suspended if its organization is.
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
            let identity =
                callers::find_by_sessions(tx, &[token.session]).await?.remove(&token.session);
            let Some(CredentialStatus::Valid(Identity { caller: Some(caller), .. })) =
                identity.filter(|_| !token.is_expired)
            else {
                return Ok(None);
            };
            if !organization_key(&caller)?.allowed_ips.allows(audit.address) {
                return Err(address_not_allowed(audit.address));
            }
            if !organization_key(&caller)?.allows_origin(origin, &app.config.http.trusted_origins) {
                return Err(origin_not_allowed());
            }
            caller.require_active()?;
            let (organization, session) = (token.organization, token.session);
            key_sessions::consume_refresh_token(tx, organization, session, audit.at).await?;
            issue_tokens(app, tx, &caller, session, audit.at).await.map(Some)
        })
        .await?;
    tokens.ok_or_else(invalid_refresh_token)
}

/// Returns the organization key that the caller presented. A personal access token cannot be
/// exchanged.
fn organization_key(caller: &Caller) -> Result<&KeyDetails> {
    match &caller.credential {
        Credential::Key(key, _) => Ok(key),
        _ => Err(Error::forbidden("Only an organization key can be exchanged for a session")),
    }
}

async fn issue_tokens(
    app: &App,
    tx: &mut PgConnection,
    caller: &Caller,
    session: SessionId,
    now: DateTime<Utc>,
) -> Result<SessionTokens> {
    let refresh = KeyFormat::refresh_token().generate(&*app.entropy);
    let (digest, _) = app.peppers.digest(refresh.expose());
    let expires_at = now + REFRESH_LIFETIME;
    let organization = caller.organization;
    key_sessions::insert_refresh_token(tx, organization, session, digest, now, expires_at).await?;
    Ok(SessionTokens {
        access_token: app.access_tokens.issue_for_key_session(
            session,
            &caller.membership_handle,
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
            event_type: AuditEventType::SessionRevokedByReuse,
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
