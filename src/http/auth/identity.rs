//! Whose a credential is, and whether it may be used for this request.

use axum::http::StatusCode;
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::app::access_tokens::{TokenSession, looks_like_jwt};
use crate::app::credential_lookup::CredentialQuery;
use crate::app::rejected_credentials::RejectedCredential;
use crate::domain::keys::{address_not_allowed, origin_not_allowed};
use crate::error::{AuthFailure, Error, Result};
use crate::http::context::RequestContext;
use crate::http::rejection::RejectedCaller;
use crate::model::audit::AuditContext;
use crate::model::caller::{
    Credential, CredentialStatus, Identity, KeyRejectionReason, RejectedKey,
};
use crate::model::key_format::{IMPORTED_PREFIX, KeyFormat, imported_text};
use crate::repo::{keys, personal_tokens};

/// Who holds a key, an organization's or a person's.
///
/// # Errors
/// Unauthenticated, in the same words whether the text is garbage, unknown, expired or revoked;
/// garbage does not reach the database. Forbidden from where the key may not be used.
pub async fn identify_key(app: &App, context: &RequestContext, text: &str) -> Result<Identity> {
    let question = if app.config.accounts.token_format.matches(text) {
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
    let identity = match &question {
        CredentialQuery::Key(candidates) if candidates.is_empty() => {
            Err(invalid_credential(AuthFailure::InvalidKey))
        }
        _ => look_up(app, context, question, AuthFailure::InvalidKey).await,
    }?;
    rehash_key(app, &identity, text).await;
    Ok(identity)
}

/// Who sent this as `Authorization: Bearer`: an access token of ours, as good as its session is, or
/// a key.
///
/// # Errors
/// As [`identify_key`].
pub async fn identify_bearer(app: &App, context: &RequestContext, text: &str) -> Result<Identity> {
    let question = match app.access_tokens.verify(text, context.received_at) {
        Some(TokenSession::Key(session)) => CredentialQuery::KeySession(session),
        Some(TokenSession::Account(session)) => CredentialQuery::Session(session),
        None if looks_like_jwt(text) && !app.config.keys.is_import_enabled => {
            return Err(invalid_credential(AuthFailure::InvalidToken));
        }
        None => return identify_key(app, context, text).await,
    };
    look_up(app, context, question, AuthFailure::InvalidToken).await
}

/// Whose session's cookie this is.
///
/// # Errors
/// As [`identify_key`].
pub async fn identify_cookie(app: &App, context: &RequestContext, text: &str) -> Result<Identity> {
    if !KeyFormat::session_token().matches(text) {
        return Err(invalid_credential(AuthFailure::InvalidToken));
    }
    let question = CredentialQuery::SessionToken(app.peppers.candidates(text));
    look_up(app, context, question, AuthFailure::InvalidToken).await
}

/// What every credential that is not good is told.
pub fn invalid_credential(proof: AuthFailure) -> Error {
    Error::unauthenticated(proof, "This credential is not valid")
}

/// Passes who may call from where they call; a known key that is refused is noted for its
/// organization's trail.
async fn look_up(
    app: &App,
    context: &RequestContext,
    question: CredentialQuery,
    proof: AuthFailure,
) -> Result<Identity> {
    let identity = match app.credential_lookup.find(question).await? {
        None => return Err(invalid_credential(proof)),
        Some(CredentialStatus::Rejected(key)) => {
            let _ = context.rejected_caller.set(RejectedCaller::from(&key));
            app.rejected_credentials.record(RejectedCredential::Key(key), || {
                rejection_audit_context(context, StatusCode::UNAUTHORIZED)
            });
            return Err(invalid_credential(proof));
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
    let refused = RejectedKey {
        organization: caller.organization,
        key: key.id,
        key_display_id: key.display_id.clone(),
        reason,
    };
    let _ = context.rejected_caller.set(RejectedCaller::from(&refused));
    app.rejected_credentials.record(RejectedCredential::Key(refused), || {
        rejection_audit_context(context, StatusCode::FORBIDDEN)
    });
    Err(error)
}

/// The request as the trail tells of it: with its route, since a path that leads nowhere could be
/// anything, a key pasted by mistake included.
pub(super) fn rejection_audit_context(
    context: &RequestContext,
    status: StatusCode,
) -> AuditContext {
    AuditContext { path: context.route.clone(), ..context.audit_context_for(status) }
}

/// Digests a key under the newest pepper, where it is not yet: once in the life of key and
/// pepper. That it failed is no reason to refuse the key.
async fn rehash_key(app: &App, identity: &Identity, text: &str) {
    let Some(credential) = identity.credential() else { return };
    let Some(key) = credential.key().filter(|key| key.pepper_id != app.peppers.newest_id()) else {
        return;
    };
    let text = text_to_digest(text, &key.prefix);
    let (digest, pepper_id) = app.peppers.digest(&text);
    let (db, id) = (&app.db, key.id);
    let done = match (credential, &identity.caller) {
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
    if let Err(error) = done {
        tracing::warn!(cause = %error.cause(), "a key was not digested anew, next time again");
    }
}

/// What is digested for a key's text.
fn text_to_digest(text: &str, prefix: &str) -> String {
    if prefix == IMPORTED_PREFIX {
        imported_text(&Sha256::digest(text).into())
    } else {
        text.to_owned()
    }
}
