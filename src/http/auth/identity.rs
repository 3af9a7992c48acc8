//! Identifies the owner of a credential, and whether it may be used from this client.

use axum::http::StatusCode;
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::app::access_tokens::{TokenSession, looks_like_jwt};
use crate::app::credential_lookup::CredentialQuery;
use crate::app::rejections::RejectedCredential;
use crate::domain::keys::{address_not_allowed, origin_not_allowed};
use crate::error::{AuthFailure, Error, Result};
use crate::http::auth::rejected_caller::RejectedCaller;
use crate::http::edge::context::RequestContext;
use crate::model::audit::AuditContext;
use crate::model::caller::{
    Credential, CredentialStatus, Identity, KeyRejectionReason, RejectedKey,
};
use crate::model::key_format::{IMPORTED_PREFIX, KeyFormat, imported_text};
use crate::repo::{keys, personal_tokens};

/// Identifies the owner of an API key or a personal access token.
///
/// # Errors
/// Unauthenticated, with the same message whether the text is malformed, unknown, expired or
/// revoked; malformed text does not reach the database. Forbidden where the key's allowed addresses
/// or origins exclude the client.
pub async fn identify_key(app: &App, context: &RequestContext, text: &str) -> Result<Identity> {
    let query = if app.config.accounts.token_format.matches(text) {
        CredentialQuery::PersonalToken(app.peppers.candidates(text))
    } else {
        let mut candidates = Vec::new();
        if app.config.keys.format.matches(text) {
            candidates = app.peppers.candidates(text);
        }
        if app.config.keys.is_import_enabled {
            candidates.extend(app.peppers.candidates(&text_to_digest(text, IMPORTED_PREFIX)));
        }
        CredentialQuery::Key(candidates)
    };
    let identity = match &query {
        CredentialQuery::Key(candidates) if candidates.is_empty() => {
            Err(invalid_credential(AuthFailure::InvalidKey))
        }
        _ => look_up(app, context, query, AuthFailure::InvalidKey).await,
    }?;
    rehash_key(app, &identity, text).await;
    Ok(identity)
}

/// Identifies the owner of a bearer credential: an access token, which is valid as long as its
/// session, or a key.
///
/// # Errors
/// As [`identify_key`].
pub async fn identify_bearer(app: &App, context: &RequestContext, text: &str) -> Result<Identity> {
    let query = match app.access_tokens.verify(text, context.received_at) {
        Some(TokenSession::Key(session)) => CredentialQuery::KeySession(session),
        Some(TokenSession::Account(session)) => CredentialQuery::Session(session),
        None if looks_like_jwt(text) && !app.config.keys.is_import_enabled => {
            return Err(invalid_credential(AuthFailure::InvalidToken));
        }
        None => return identify_key(app, context, text).await,
    };
    look_up(app, context, query, AuthFailure::InvalidToken).await
}

/// Identifies the account of a session cookie.
///
/// # Errors
/// As [`identify_key`].
pub async fn identify_cookie(app: &App, context: &RequestContext, text: &str) -> Result<Identity> {
    if !KeyFormat::session_token().matches(text) {
        return Err(invalid_credential(AuthFailure::InvalidToken));
    }
    let query = CredentialQuery::SessionToken(app.peppers.candidates(text));
    look_up(app, context, query, AuthFailure::InvalidToken).await
}

/// The error of every invalid credential.
pub fn invalid_credential(failure: AuthFailure) -> Error {
    Error::unauthenticated(failure, "This credential is not valid")
}

/// Looks up a credential and checks where it may be used from. The rejection of a known key is
/// recorded in its organization's audit log.
async fn look_up(
    app: &App,
    context: &RequestContext,
    query: CredentialQuery,
    failure: AuthFailure,
) -> Result<Identity> {
    let identity = match app.credential_lookup.find(query).await? {
        None => return Err(invalid_credential(failure)),
        Some(CredentialStatus::Rejected(key)) => {
            let _ = context.rejected_caller.set(RejectedCaller::from(&key));
            app.rejections.record_credential(RejectedCredential::Key(key), || {
                rejection_audit_context(context, StatusCode::UNAUTHORIZED)
            });
            return Err(invalid_credential(failure));
        }
        Some(CredentialStatus::Valid(identity)) => identity,
    };
    let (Some(caller), Some(Credential::Key(key, _))) = (&identity.caller, identity.credential())
    else {
        return Ok(identity);
    };
    let trusted = &app.config.http.trusted_origins;
    let (reason, error) = if !key.allowed_ips.allows(context.client_address) {
        (KeyRejectionReason::Address, address_not_allowed(context.client_address))
    } else if !key.allows_origin(context.origin.as_deref(), trusted) {
        (KeyRejectionReason::Origin, origin_not_allowed())
    } else {
        return Ok(identity);
    };
    let rejected = RejectedKey {
        organization: caller.organization,
        key: key.id,
        key_display_id: key.display_id.clone(),
        reason,
    };
    let _ = context.rejected_caller.set(RejectedCaller::from(&rejected));
    app.rejections.record_credential(RejectedCredential::Key(rejected), || {
        rejection_audit_context(context, StatusCode::FORBIDDEN)
    });
    Err(error)
}

/// The audit context of a rejected credential: with the route's pattern, since a path that matches
/// no route could contain anything, even a key that was pasted by mistake.
pub(super) fn rejection_audit_context(
    context: &RequestContext,
    status: StatusCode,
) -> AuditContext {
    AuditContext { path: context.route.clone(), ..context.audit_context_for(status) }
}

/// Rehashes a key with the newest pepper, where it is stored with an older one. A failure does not
/// reject the key.
async fn rehash_key(app: &App, identity: &Identity, text: &str) {
    let Some(credential) = identity.credential() else { return };
    let Some(key) = credential.key().filter(|key| key.pepper_id != app.peppers.newest_id()) else {
        return;
    };
    let text = text_to_digest(text, &key.prefix);
    let (digest, pepper_id) = app.peppers.digest(&text);
    let (db, id) = (&app.db, key.id);
    let result = match (credential, &identity.caller) {
        (Credential::PersonalToken(account, _), _) => {
            let account = *account;
            db.run(async |db| personal_tokens::rehash(db, account, id, digest, pepper_id).await)
                .await
        }
        (_, Some(caller)) => {
            let tenant = caller.organization;
            db.tenant_transaction(tenant, async |tx| {
                keys::rehash(tx, tenant, id, digest, pepper_id).await
            })
            .await
        }
        (_, None) => Ok(()),
    };
    if let Err(error) = result {
        tracing::warn!(cause = %error.cause(), "key rehash failed; will retry on next use");
    }
}

/// Returns the text that is hashed for a key: of an imported key, its SHA-256.
fn text_to_digest(text: &str, prefix: &str) -> String {
    if prefix == IMPORTED_PREFIX {
        imported_text(&Sha256::digest(text).into())
    } else {
        text.to_owned()
    }
}
