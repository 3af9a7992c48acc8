//! Whose a credential is, and whether it may be used for this request.

use axum::http::StatusCode;
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::app::access_tokens::{TokenSession, is_token};
use crate::app::key_lookup::OfCredential;
use crate::app::refusals::Refused;
use crate::domain::keys::{elsewhere, from_another_page};
use crate::error::{Error, Proof, Result};
use crate::http::context::RequestContext;
use crate::http::denial::Denied;
use crate::model::audit::Trail;
use crate::model::caller::{Credential, Holder, Identity, Refusal, RefusedKey};
use crate::model::key_format::{IMPORTED_PREFIX, KeyFormat, imported_text};
use crate::repo::{keys, personal_tokens};

/// Who holds a key, an organization's or a person's.
///
/// # Errors
/// Unauthenticated, in the same words whether the text is garbage, unknown, expired or revoked;
/// garbage does not reach the database. Forbidden from where the key may not be used.
pub async fn holder_of_key(app: &App, context: &RequestContext, text: &str) -> Result<Identity> {
    let question = if app.config.accounts.token_format.recognises(text) {
        OfCredential::PersonalToken(app.peppers.candidates(text))
    } else {
        let mut candidates = Vec::new();
        if app.config.keys.format.recognises(text) {
            candidates = app.peppers.candidates(text);
        }
        if app.config.keys.import {
            candidates.extend(app.peppers.candidates(&digested_text(text, IMPORTED_PREFIX)));
        }
        OfCredential::Key(candidates)
    };
    let identity = match &question {
        OfCredential::Key(candidates) if candidates.is_empty() => Err(refused(Proof::Key)),
        _ => ask(app, context, question, Proof::Key).await,
    }?;
    redigest(app, &identity, text).await;
    Ok(identity)
}

/// Who sent this as `Authorization: Bearer`: an access token of ours, as good as its session is, or
/// a key.
///
/// # Errors
/// As [`holder_of_key`].
pub async fn holder_of_bearer(app: &App, context: &RequestContext, text: &str) -> Result<Identity> {
    let question = match app.access_tokens.session(text, context.at) {
        Some(TokenSession::Key(session)) => OfCredential::KeySession(session),
        Some(TokenSession::Account(session)) => OfCredential::Session(session),
        None if is_token(text) && !app.config.keys.import => return Err(refused(Proof::Token)),
        None => return holder_of_key(app, context, text).await,
    };
    ask(app, context, question, Proof::Token).await
}

/// Whose session's cookie this is.
///
/// # Errors
/// As [`holder_of_key`].
pub async fn holder_of_cookie(app: &App, context: &RequestContext, text: &str) -> Result<Identity> {
    if !KeyFormat::of_sessions().recognises(text) {
        return Err(refused(Proof::Token));
    }
    let question = OfCredential::SessionToken(app.peppers.candidates(text));
    ask(app, context, question, Proof::Token).await
}

/// What every credential that is not good is told.
pub fn refused(proof: Proof) -> Error {
    Error::unauthenticated(proof, "This credential is not valid")
}

/// Passes who may call from where they call; a known key that is refused is noted for its
/// organization's trail.
async fn ask(
    app: &App,
    context: &RequestContext,
    question: OfCredential,
    proof: Proof,
) -> Result<Identity> {
    let identity = match app.key_lookup.ask(question).await? {
        None => return Err(refused(proof)),
        Some(Holder::Refused(key)) => {
            let _ = context.denied.set(Denied::from(&key));
            app.refusals
                .note(Refused::Key(key), || trail_of_refusal(context, StatusCode::UNAUTHORIZED));
            return Err(refused(proof));
        }
        Some(Holder::Good(identity)) => identity,
    };
    let (Some(caller), Some(Credential::Key(key, _))) = (&identity.caller, identity.credential())
    else {
        return Ok(identity);
    };
    let trusted = &app.config.http.trusted_origins;
    let (reason, error) = if !key.allowed_ips.admit(context.address) {
        (Refusal::Address, elsewhere(context.address))
    } else if !key.admits_page(context.origin.as_deref(), trusted) {
        (Refusal::Origin, from_another_page())
    } else {
        return Ok(identity);
    };
    let refused = RefusedKey {
        organization: caller.organization,
        key: key.id,
        key_display_id: key.display_id.clone(),
        reason,
    };
    let _ = context.denied.set(Denied::from(&refused));
    app.refusals.note(Refused::Key(refused), || trail_of_refusal(context, StatusCode::FORBIDDEN));
    Err(error)
}

/// The request as the trail tells of it: with its route, since a path that leads nowhere could be
/// anything, a key pasted by mistake included.
pub(super) fn trail_of_refusal(context: &RequestContext, status: StatusCode) -> Trail {
    Trail { path: context.route.clone(), ..context.trail_of(status) }
}

/// Digests a key under the newest pepper, where it is not yet: once in the life of key and
/// pepper. That it failed is no reason to refuse the key.
async fn redigest(app: &App, identity: &Identity, text: &str) {
    let Some(credential) = identity.credential() else { return };
    let Some(key) = credential.key().filter(|key| key.pepper_id != app.peppers.newest_id()) else {
        return;
    };
    let text = digested_text(text, &key.prefix);
    let (digest, pepper_id) = app.peppers.digest(&text);
    let (db, id) = (&app.db, key.id);
    let done = match (credential, &identity.caller) {
        (Credential::PersonalToken(account, _), _) => {
            let account = *account;
            db.run(async |db| personal_tokens::redigest(db, account, id, digest, pepper_id).await)
                .await
        }
        (_, Some(caller)) => {
            let tenant = caller.organization;
            db.tenant(tenant, async |tx| keys::redigest(tx, tenant, id, digest, pepper_id).await)
                .await
        }
        (_, None) => Ok(()),
    };
    if let Err(error) = done {
        tracing::warn!(cause = %error.cause(), "a key was not digested anew, next time again");
    }
}

/// What is digested for a key's text.
fn digested_text(text: &str, prefix: &str) -> String {
    if prefix == IMPORTED_PREFIX {
        imported_text(&Sha256::digest(text).into())
    } else {
        text.to_owned()
    }
}
