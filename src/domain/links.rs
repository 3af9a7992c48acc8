//! Tokens of mailed links, as somebody shows them.

use crate::app::App;
use crate::error::{Error, Proof, Result};
use crate::model::ids::AccountId;
use crate::model::key_format::KeyFormat;
use crate::model::mail::Purpose;
use crate::model::secret::{Digest, Secret};
use crate::repo::email_tokens;

/// The digests that a token may be stored under.
///
/// # Errors
/// Unauthenticated where the text can be no token of a link.
pub fn digests_of(app: &App, token: &Secret) -> Result<Vec<Digest>> {
    let is_ours = KeyFormat::of_links().recognises(token.expose());
    is_ours.then(|| app.peppers.candidates(token.expose())).ok_or_else(wrong_link)
}

/// Whose link it is; it stays good.
///
/// # Errors
/// Unauthenticated where the token is unknown, expired, used or for another purpose.
pub async fn account_of(app: &App, purpose: Purpose, token: &Secret) -> Result<AccountId> {
    let digests = digests_of(app, token)?;
    let found = app.db.run(async |db| email_tokens::find(db, purpose, &digests).await).await?;
    found.ok_or_else(wrong_link)
}

/// The rejection of a link that is unknown, expired or used.
#[must_use]
pub fn wrong_link() -> Error {
    Error::unauthenticated(Proof::Token, "This link is not valid any more; ask for a new one")
}
