//! Mailed links. Each contains a token that works once and until it expires.
//!
//! Only the mail contains the token. The database stores its digest and expiry, in the table of
//! what the link is for; a newer link to the same target replaces the older one.

use sqlx::PgConnection;
use url::Url;

use crate::app::App;
use crate::error::{AuthFailure, Error, ErrorKind, Result};
use crate::model::ids::{AccountId, InviteId, OrganizationId};
use crate::model::key_format::KeyFormat;
use crate::model::mail::LinkPurpose;
use crate::model::secret::{Digest, Secret};
use crate::repo::{email_tokens, invites, key_claims};

/// The target of a link.
#[derive(Clone, Copy)]
pub enum LinkTarget<'a> {
    /// An account: verifies its address or resets its password, then leads to the callback URL.
    Account(AccountId, LinkPurpose, Option<&'a str>),
    /// An invitation, to accept it.
    Invite(InviteId),
    /// An organization that was paid for, to claim its first key.
    FirstKey(OrganizationId),
}

/// Creates the link to a target with a new token, which replaces the target's older one. Returns
/// `None` if the invitation can no longer be accepted, or the key can no longer be claimed.
pub async fn create(
    app: &App,
    tx: &mut PgConnection,
    target: LinkTarget<'_>,
) -> Result<Option<Url>> {
    let token = KeyFormat::link_token().generate(&*app.entropy);
    let (digest, _) = app.peppers.digest(token.expose());
    let mut url = app.config.http.public_url.clone();
    let organization = match target {
        LinkTarget::Account(account, purpose, callback_url) => {
            let link = (account, purpose);
            email_tokens::replace(tx, link, digest, callback_url, app.clock.now()).await?;
            url.set_path(match purpose {
                LinkPurpose::VerifyEmail => "/api/auth/verify-email",
                LinkPurpose::ResetPassword => "/api/auth/reset-password",
            });
            url.query_pairs_mut().append_pair("token", token.expose());
            None
        }
        LinkTarget::Invite(invite) => {
            let handle = invites::set_token(tx, invite, digest).await?;
            let Some(handle) = handle else { return Ok(None) };
            url.set_path(&format!("/api/user/invites/{}/accept", token.expose()));
            Some(handle)
        }
        LinkTarget::FirstKey(organization) => {
            let handle = key_claims::set_token(tx, organization, digest).await?;
            let Some(handle) = handle else { return Ok(None) };
            url.set_path("/api/auth/claim-key");
            url.query_pairs_mut().append_pair("token", token.expose());
            Some(handle)
        }
    };
    if let Some(handle) = organization {
        url.query_pairs_mut().append_pair("organization", &handle);
    }
    Ok(Some(url))
}

/// Returns whether a text, such as a mail server's response, contains the token of the link, in
/// upper or lower case.
#[must_use]
pub fn contains_token(text: &str, link: &Url) -> bool {
    let text = text.to_lowercase();
    let tokens = link.query_pairs().filter(|(name, _)| name == "token");
    let of_query = tokens.map(|(_, token)| token.to_lowercase());
    let of_path = link.path().split('/').filter(|part| part.starts_with("tnt_"));
    of_query.chain(of_path.map(str::to_lowercase)).any(|token| text.contains(&token))
}

/// Returns the digests that a token may be stored under, `None` if the text cannot be a token of a
/// link.
#[must_use]
pub fn candidate_digests(app: &App, token: &Secret) -> Option<Vec<Digest>> {
    let is_link_token = KeyFormat::link_token().matches(token.expose());
    is_link_token.then(|| app.peppers.candidates(token.expose()))
}

/// Returns the account of a link, which remains valid.
///
/// # Errors
/// Unauthenticated if the token is unknown, expired, used or for another purpose.
pub async fn find_account(app: &App, purpose: LinkPurpose, token: &Secret) -> Result<AccountId> {
    let digests = candidate_digests(app, token).ok_or_else(invalid_link)?;
    let account = app.db.run(async |db| email_tokens::find(db, purpose, &digests).await).await?;
    account.ok_or_else(invalid_link)
}

/// Consumes an account's link and returns its callback URL. Of several concurrent uses of one link,
/// one succeeds.
///
/// # Errors
/// Unauthenticated if the token is unknown, expired, used or for another purpose or account.
pub async fn consume(
    app: &App,
    tx: &mut PgConnection,
    link: (AccountId, LinkPurpose),
    token: &Secret,
) -> Result<Option<String>> {
    let digests = candidate_digests(app, token).ok_or_else(invalid_link)?;
    email_tokens::consume(tx, link, &digests).await?.ok_or_else(invalid_link)
}

/// Replaces the error for the account of a link that was deleted meanwhile.
#[must_use]
pub fn not_found_to_invalid_link(error: Error) -> Error {
    if *error.kind() == ErrorKind::NotFound { invalid_link() } else { error }
}

/// Returns the error for a link that is unknown, expired or used.
#[must_use]
pub fn invalid_link() -> Error {
    Error::unauthenticated(
        AuthFailure::InvalidToken,
        "This link is no longer valid; request a new one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_a_text_is_detected_in_any_case() {
        let link = Url::parse("https://api.example.com/x?token=tnt_link_AbC").expect("a URL");
        assert!(contains_token("550 spam: https://api.example.com/x?token=tnt_link_AbC", &link));
        assert!(contains_token("550 spam: TNT_LINK_ABC", &link));
        assert!(!contains_token("550 no such user", &link));
    }
}
