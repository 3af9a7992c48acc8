//! Whose a credential is, and whether it may be used for this request.

use sha2::{Digest, Sha256};

use crate::app::App;
use crate::app::key_lookup::Question;
use crate::domain::keys::elsewhere;
use crate::error::{Error, Result};
use crate::http::context::RequestContext;
use crate::model::audit::Trail;
use crate::model::caller::{Caller, Holder, Refusal, RefusedKey};
use crate::model::ids::SessionId;
use crate::model::key_format::{IMPORTED_PREFIX, imported_text};
use crate::repo::keys;

/// The holder of a key.
///
/// # Errors
/// Unauthenticated, in the same words whether the text is garbage, unknown, expired or revoked;
/// garbage does not reach the database. Forbidden from where the key may not be used.
pub async fn holder_of_key(app: &App, context: &RequestContext, text: &str) -> Result<Caller> {
    let mut candidates = Vec::new();
    if app.config.keys.format.recognises(text) {
        candidates = app.peppers.candidates(text);
    }
    if app.config.keys.import {
        candidates.extend(app.peppers.candidates(&digested_text(text, IMPORTED_PREFIX)));
    }
    if candidates.is_empty() {
        return Err(refused());
    }
    let holder = app.key_lookup.ask(Question::Key(candidates)).await?;
    let caller = admit(app, context, holder)?;
    redigest(app, &caller, text).await;
    Ok(caller)
}

/// The holder of the session that an access token names, as good as session and key are.
///
/// # Errors
/// As [`holder_of_key`].
pub async fn holder_of_session(
    app: &App,
    context: &RequestContext,
    session: SessionId,
) -> Result<Caller> {
    let holder = app.key_lookup.ask(Question::Session(session)).await?;
    admit(app, context, holder)
}

/// What every credential that is not good is told.
pub fn refused() -> Error {
    Error::unauthenticated("This credential is not valid")
}

/// Passes who may call from where they call; what is refused is noted for its owner's trail.
fn admit(app: &App, context: &RequestContext, holder: Option<Holder>) -> Result<Caller> {
    let note = |refused| app.refusals.note(refused, || trail_of_refusal(context));
    match holder {
        None => Err(refused()),
        Some(Holder::Refused(key)) => {
            note(key);
            Err(refused())
        }
        Some(Holder::Good(caller)) if caller.key_allowed_ips.admit(context.address) => Ok(*caller),
        Some(Holder::Good(caller)) => {
            note(RefusedKey {
                organization: caller.organization,
                key: caller.key,
                key_display_id: caller.key_display_id,
                reason: Refusal::Address,
            });
            Err(elsewhere())
        }
    }
}

/// The request as the trail tells of it: with its route, since a path that leads nowhere could be
/// anything, a key pasted by mistake included.
fn trail_of_refusal(context: &RequestContext) -> Trail {
    Trail { path: context.route.clone(), ..context.trail() }
}

/// Digests a key under the newest pepper, where it is not yet: once in the life of key and
/// pepper. That it failed is no reason to refuse the key.
async fn redigest(app: &App, caller: &Caller, text: &str) {
    if caller.key_pepper_id == app.peppers.newest_id() {
        return;
    }
    let text = digested_text(text, &caller.key_prefix);
    let (digest, pepper_id) = app.peppers.digest(&text);
    let (organization, key) = (caller.organization, caller.key);
    let done =
        app.db.run(async |db| keys::redigest(db, organization, key, digest, pepper_id).await).await;
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
