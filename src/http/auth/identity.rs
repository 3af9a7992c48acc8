//! Identifies the owner of a credential, and checks whether it may be used from this client.

use axum::http::StatusCode;

use crate::app::App;
use crate::app::access_tokens::{TokenSession, looks_like_jwt};
use crate::app::credential_lookup::CredentialQuery;
use crate::app::rejections::RejectedCredential;
use crate::domain::keys::presented::{CredentialOwner, possible_digests, rehash};
use crate::domain::keys::{address_not_allowed, origin_not_allowed};
use crate::error::{AuthFailure, Error, Result};
use crate::http::auth::rejected_caller::RejectedCaller;
use crate::http::edge::context::RequestContext;
use crate::model::audit::AuditContext;
use crate::model::caller::{
    Credential, CredentialStatus, Identity, KeyRejectionReason, RejectedKey,
};
use crate::model::key_format::KeyFormat;
use crate::model::verification::CredentialKind;

/// Identifies the owner of an API key or a personal access token.
///
/// # Errors
/// Unauthenticated, with the same message whether the text is malformed, unknown, expired or
/// revoked; malformed text does not reach the database. Forbidden if the key's allowed addresses or
/// origins exclude the client.
pub async fn identify_key(app: &App, context: &RequestContext, text: &str) -> Result<Identity> {
    let query = match possible_digests(app, text) {
        Some((CredentialKind::PersonalToken, candidates)) => {
            CredentialQuery::PersonalToken(candidates)
        }
        Some((CredentialKind::ApiKey, candidates)) => CredentialQuery::Key(candidates),
        Some((CredentialKind::OauthToken, _)) | None => {
            return Err(invalid_credential(AuthFailure::InvalidKey));
        }
    };
    let identity = look_up(app, context, query, AuthFailure::InvalidKey).await?;
    rehash_key(app, &identity, text).await;
    Ok(identity)
}

/// Identifies the owner of a bearer credential: an access token of a session that has not ended, an
/// OAuth access token, or a key.
///
/// # Errors
/// As [`identify_key`].
pub async fn identify_bearer(app: &App, context: &RequestContext, text: &str) -> Result<Identity> {
    let query = match app.access_tokens.verify(text, context.received_at) {
        Some(TokenSession::Key(session)) => CredentialQuery::KeySession(session),
        Some(TokenSession::Account(session)) => CredentialQuery::Session(session),
        None if looks_like_jwt(text) && !app.config.keys.accepts_imported_keys => {
            return Err(invalid_credential(AuthFailure::InvalidToken));
        }
        None if app.config.oauth.accepts(text) => {
            return identify_oauth_token(app, context, text).await;
        }
        None => return identify_key(app, context, text).await,
    };
    look_up(app, context, query, AuthFailure::InvalidToken).await
}

/// Identifies the account and the client of an OAuth access token.
///
/// # Errors
/// Unauthenticated, also for a token that is for other resources than this API (RFC 8707).
async fn identify_oauth_token(app: &App, context: &RequestContext, text: &str) -> Result<Identity> {
    let query = CredentialQuery::OauthToken(app.peppers.candidates(text));
    let identity = look_up(app, context, query, AuthFailure::InvalidToken).await?;
    let is_for_this_api = matches!(identity.credential(), Some(Credential::OauthToken(_, token))
        if token.resources.contains(&app.config.oauth.issuer));
    if is_for_this_api { Ok(identity) } else { Err(invalid_credential(AuthFailure::InvalidToken)) }
}

/// Identifies the account of a session cookie.
///
/// # Errors
/// As [`identify_key`].
pub async fn identify_cookie(app: &App, context: &RequestContext, text: &str) -> Result<Identity> {
    let formats = [KeyFormat::session_token(), KeyFormat::sso_session_token()];
    if !formats.iter().any(|format| format.matches(text)) {
        return Err(invalid_credential(AuthFailure::InvalidToken));
    }
    let query = CredentialQuery::SessionToken(app.peppers.candidates(text));
    look_up(app, context, query, AuthFailure::InvalidToken).await
}

/// Returns the error of every invalid credential.
pub fn invalid_credential(failure: AuthFailure) -> Error {
    Error::unauthenticated(failure, "This credential is not valid")
}

/// Looks up a credential, and checks whether it may be used from this client. The rejection of a
/// known key is recorded in its organization's audit log.
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
    if !app.config.sso.is_on && identity.person.as_ref().is_some_and(|it| it.is_in_sso_session()) {
        return Err(invalid_credential(failure));
    }
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

/// Returns the audit context of a rejected credential: with the route's pattern, because a path
/// that matches no route could contain anything, even a key that was pasted by mistake.
pub(super) fn rejection_audit_context(
    context: &RequestContext,
    status: StatusCode,
) -> AuditContext {
    AuditContext { path: context.route.clone(), ..context.audit_context_for(status) }
}

/// Rehashes a key with the newest pepper, if it is stored with an older one.
async fn rehash_key(app: &App, identity: &Identity, text: &str) {
    let Some(credential) = identity.credential() else { return };
    let owner = match (credential, &identity.caller) {
        (Credential::PersonalToken(account, _), _) => CredentialOwner::Account(*account),
        (_, Some(caller)) => CredentialOwner::Organization(caller.organization),
        (_, None) => return,
    };
    if let Some(key) = credential.key() {
        rehash(app, (owner, key.id), (&key.prefix, &key.pepper_id), text).await;
    }
}
