//! The text of a presented key, personal access token or OAuth access token: which digests it may
//! be stored under.

use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::error::Result;
use crate::model::ids::{AccountId, KeyId, OrganizationId};
use crate::model::key_format::{IMPORTED_PREFIX, imported_text};
use crate::model::secret::Digest;
use crate::model::verification::CredentialKind;
use crate::repo::{keys, personal_tokens};

/// Returns the kind of credential that a text may be, and its possible digests. `None` if it
/// cannot be a credential, because its form or its checksum is wrong: no query is needed then.
#[must_use]
pub fn possible_digests(app: &App, text: &str) -> Option<(CredentialKind, Vec<Digest>)> {
    if app.config.accounts.token_format.matches(text) {
        return Some((CredentialKind::PersonalToken, app.peppers.candidates(text)));
    }
    if app.config.oauth.accepts(text) {
        return Some((CredentialKind::OauthToken, app.peppers.candidates(text)));
    }
    let mut candidates = Vec::new();
    if app.config.keys.format.matches(text) {
        candidates = app.peppers.candidates(text);
    }
    if app.config.keys.accepts_imported_keys {
        candidates.extend(app.peppers.candidates(&text_to_digest(text, IMPORTED_PREFIX)));
    }
    (!candidates.is_empty()).then_some((CredentialKind::ApiKey, candidates))
}

/// Returns the possible digests of an OAuth access token that is a JWT; `None` if the text is not
/// one. It is found by introspection alone: its service verifies it by itself.
#[must_use]
pub fn jwt_access_token_digests(app: &App, text: &str) -> Option<Vec<Digest>> {
    let may_be_one = app.config.oauth.is_on && may_be_jwt_access_token(text);
    may_be_one.then(|| app.peppers.candidates(text))
}

/// Returns whether the text may be an OAuth access token that is a JWT.
#[must_use]
pub fn may_be_jwt_access_token(text: &str) -> bool {
    text.starts_with("eyJ") && text.split('.').count() == 3
}

/// The owner of a presented credential.
#[derive(Clone, Copy, Debug)]
pub enum CredentialOwner {
    /// An organization.
    Organization(OrganizationId),
    /// An account.
    Account(AccountId),
}

/// Rehashes a presented credential with the newest pepper if it is stored with an older one. A
/// failure is logged and does not reject the credential.
pub async fn rehash(
    app: &App,
    (owner, id): (CredentialOwner, KeyId),
    (prefix, pepper_id): (&str, &str),
    text: &str,
) {
    if pepper_id == app.peppers.newest_id() {
        return;
    }
    let (digest, pepper_id) = app.peppers.digest(&text_to_digest(text, prefix));
    let result: Result<()> = match owner {
        CredentialOwner::Account(account) => {
            app.db
                .run(async |db| personal_tokens::rehash(db, account, id, digest, pepper_id).await)
                .await
        }
        CredentialOwner::Organization(tenant) => {
            app.db
                .tenant_transaction(tenant, async |tx| {
                    keys::rehash(tx, tenant, id, digest, pepper_id).await
                })
                .await
        }
    };
    if let Err(error) = result {
        tracing::warn!(cause = %error.cause(), "key rehash failed; will retry on next use");
    }
}

/// Returns the text that is digested for a key: for an imported key, its SHA-256.
fn text_to_digest(text: &str, prefix: &str) -> String {
    if prefix == IMPORTED_PREFIX {
        imported_text(&Sha256::digest(text).into())
    } else {
        text.to_owned()
    }
}
