//! Presented tokens of mailed links.

use crate::app::App;
use crate::error::{AuthFailure, Error, Result};
use crate::model::ids::AccountId;
use crate::model::key_format::KeyFormat;
use crate::model::mail::LinkPurpose;
use crate::model::secret::{Digest, Secret};
use crate::repo::email_tokens;

/// The digests that a token may be stored under.
///
/// # Errors
/// Unauthenticated where the text can be no token of a link.
pub fn candidate_digests(app: &App, token: &Secret) -> Result<Vec<Digest>> {
    let is_ours = KeyFormat::link_token().matches(token.expose());
    is_ours.then(|| app.peppers.candidates(token.expose())).ok_or_else(invalid_link)
}

/// Whose link it is; it stays good.
///
/// # Errors
/// Unauthenticated where the token is unknown, expired, used or for another purpose.
pub async fn find_account(app: &App, purpose: LinkPurpose, token: &Secret) -> Result<AccountId> {
    let digests = candidate_digests(app, token)?;
    let found = app.db.run(async |db| email_tokens::find(db, purpose, &digests).await).await?;
    found.ok_or_else(invalid_link)
}

/// The rejection of a link that is unknown, expired or used.
#[must_use]
pub fn invalid_link() -> Error {
    Error::unauthenticated(
        AuthFailure::InvalidToken,
        "This link is no longer valid; request a new one",
    )
}
