//! The token endpoint: codes and refresh tokens are exchanged for access tokens (RFC 6749 §5).
//!
//! A refresh token's successor is derived from it. So concurrent requests, and repeated ones after
//! a lost response, get the same successor, which is stored nowhere in plaintext. A use of a
//! refresh token after its successor was used, or after the grace period, ends the grant: two
//! parties have the token, and one of them is not the client.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use subtle::ConstantTimeEq;

use crate::app::App;
use crate::domain::oauth::client_revocation::{revoke_grant, revoke_reused_code};
use crate::domain::oauth::narrowing::{narrow_resources, narrow_scopes, still_requestable};
use crate::domain::oauth::token_issue::{AccessTokenFormat, TokenIssue};
use crate::error::{Error, ErrorKind, OauthFailure, Result};
use crate::model::audit::AuditContext;
use crate::model::key_format::KeyFormat;
use crate::model::oauth::OFFLINE_ACCESS;
use crate::model::oauth::app_grant::GrantRevocationReason;
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::resource::Resource;
use crate::model::oauth::tokens::{RedeemedCode, SignIn, StoredRefreshToken};
use crate::model::secret::{Digest, Secret};
use crate::repo::oauth_tokens;

/// Tokens for a client, which are stored nowhere.
pub struct IssuedTokens {
    /// The access token.
    pub access_token: Secret,
    /// For how many seconds it is valid.
    pub expires_in: u64,
    /// The refresh token; `None` without `offline_access`.
    pub refresh_token: Option<Secret>,
    /// The ID token; `None` without `openid`, or if the organization is suspended.
    pub id_token: Option<Secret>,
    /// The granted scopes, `offline_access` included.
    pub scopes: Vec<String>,
    /// The public id of the organization of the grant.
    pub organization_handle: Option<String>,
}

/// The parameters of a code's redemption (RFC 6749 §4.1.3, RFC 7636 §4.5).
pub struct CodeRequest {
    /// The code.
    pub code: Secret,
    /// The verifier of PKCE.
    pub verifier: Secret,
    /// The redirect URI, if the client repeats it.
    pub redirect_uri: Option<String>,
    /// The resources that the token is for; empty for all that were granted.
    pub resources: Vec<Resource>,
}

/// The parameters of a refresh (RFC 6749 §6).
pub struct RefreshRequest {
    /// The refresh token.
    pub refresh_token: Secret,
    /// The scopes to narrow the access token to; `None` for all that were granted.
    pub scopes: Option<Vec<String>>,
    /// The resources that the token is for; empty for all that were granted.
    pub resources: Vec<Resource>,
}

/// What a transaction decided. A rejection is committed as well, with what it revokes.
pub(super) type Decision = std::result::Result<IssuedTokens, Error>;

/// Exchanges a code for tokens. A code that was used before is rejected, and its grant is revoked
/// if the first use issued tokens.
///
/// # Errors
/// Invalid grant, scope or target.
pub async fn redeem(
    app: &App,
    client: &OauthClient,
    request: &CodeRequest,
    audit: &AuditContext,
) -> Result<IssuedTokens> {
    let candidates = candidates(app, &KeyFormat::oauth_code(), &request.code)?;
    app.db
        .transaction(async |tx| {
            let code = oauth_tokens::redeem_code(tx, &candidates, client.id).await?;
            let Some(code) = code else {
                revoke_reused_code(tx, &candidates, client, audit).await?;
                return Ok(Err(invalid_grant("The code is unknown, used or expired")));
            };
            redeem_once(app, tx, (client, &code), request, audit).await
        })
        .await?
}

async fn redeem_once(
    app: &App,
    tx: &mut PgConnection,
    (client, code): (&OauthClient, &RedeemedCode),
    request: &CodeRequest,
    audit: &AuditContext,
) -> Result<Decision> {
    if let Err(error) = check_proof(request, code) {
        return Ok(Err(error));
    }
    issue_for_code(app, tx, (client, code), &request.resources, audit).await
}

/// Issues the tokens of a code that was just redeemed, for some of its resources.
pub(super) async fn issue_for_code(
    app: &App,
    tx: &mut PgConnection,
    (client, code): (&OauthClient, &RedeemedCode),
    resources: &[Resource],
    audit: &AuditContext,
) -> Result<Decision> {
    let resources = match narrow_resources(resources, &code.resources) {
        Ok(resources) => resources,
        Err(error) => return Ok(Err(error)),
    };
    let Some(scopes) = still_requestable(app, client, code.scopes.clone()) else {
        return Ok(Err(invalid_grant("The app may no longer use any of the scopes")));
    };
    let Some(grant) = oauth_tokens::lock_grant(tx, code.grant, Some(code.session)).await? else {
        return Ok(Err(invalid_grant("The grant has ended")));
    };
    let (format, mut scopes) = match AccessTokenFormat::choose(app, &grant, &resources, scopes) {
        Ok(chosen) => chosen,
        Err(error) => return Ok(Err(error)),
    };
    oauth_tokens::mark_redeemed(tx, code.digest).await?;
    let session = (!code.is_offline).then_some(code.session);
    let sign_in = Some(SignIn { session: code.session, at: code.signed_in_at });
    let (grant, resources) = (&grant, &resources);
    let code_digest = code.digest;
    let issue =
        TokenIssue { client, grant, code: code_digest, session, sign_in, resources, format };
    let (access_token, expires_in) = issue.access_token(app, tx, &scopes, audit).await?;
    let nonce = code.nonce.as_deref();
    let id_token = issue.id_token(app, nonce, (&access_token, &scopes), audit)?;
    let mut refresh_token = None;
    if code.is_offline {
        let text = KeyFormat::oauth_refresh_token().generate(&*app.entropy);
        let first = (0, None, &code.scopes[..], &code.resources[..]);
        issue.insert_refresh_token(app, tx, &text, first, audit).await?;
        refresh_token = Some(text);
        scopes.push(OFFLINE_ACCESS.to_owned());
    }
    Ok(Ok(IssuedTokens {
        access_token,
        expires_in,
        refresh_token,
        id_token,
        scopes,
        organization_handle: grant.organization_handle.clone(),
    }))
}

/// Checks the proof of PKCE and the redirect URI.
fn check_proof(request: &CodeRequest, code: &RedeemedCode) -> Result<()> {
    let challenge =
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(request.verifier.expose().as_bytes()));
    let expected = code.challenge.as_deref().unwrap_or_default();
    if !bool::from(challenge.as_bytes().ct_eq(expected.as_bytes())) {
        return Err(invalid_grant("`code_verifier` does not match the challenge"));
    }
    if request.redirect_uri.is_some() && request.redirect_uri != code.redirect_uri {
        return Err(invalid_grant("`redirect_uri` is not the one of the authorization request"));
    }
    Ok(())
}

/// Exchanges a refresh token for an access token and its successor.
///
/// # Errors
/// Invalid grant, scope or target.
pub async fn refresh(
    app: &App,
    client: &OauthClient,
    request: &RefreshRequest,
    audit: &AuditContext,
) -> Result<IssuedTokens> {
    let format = KeyFormat::oauth_refresh_token();
    let candidates = candidates(app, &format, &request.refresh_token)?;
    app.db
        .transaction(async |tx| {
            let token = oauth_tokens::lock_refresh_token(tx, &candidates, client.id).await?;
            let Some(token) = token else {
                return Ok(Err(invalid_grant("The refresh token is unknown or expired")));
            };
            if is_reused(app, &token) {
                revoke_grant(
                    tx,
                    token.grant,
                    client,
                    GrantRevocationReason::RefreshTokenReused,
                    audit,
                )
                .await?;
                return Ok(Err(invalid_grant("The refresh token was used before")));
            }
            refresh_once(app, tx, (client, &token), request, audit).await
        })
        .await?
}

/// Returns whether the use of a refresh token shows that two parties have it.
fn is_reused(app: &App, token: &StoredRefreshToken) -> bool {
    let grace = TimeDelta::from_std(app.config.oauth.refresh_grace).unwrap_or_default();
    token.time_since_use.is_some_and(|time| time > grace || token.is_successor_used)
}

async fn refresh_once(
    app: &App,
    tx: &mut PgConnection,
    (client, token): (&OauthClient, &StoredRefreshToken),
    request: &RefreshRequest,
    audit: &AuditContext,
) -> Result<Decision> {
    let resources = match narrow_resources(&request.resources, &token.resources) {
        Ok(resources) => resources,
        Err(error) => return Ok(Err(error)),
    };
    let scopes = match narrow_scopes(request.scopes.as_deref(), &token.scopes) {
        Ok(scopes) => scopes,
        Err(error) => return Ok(Err(error)),
    };
    let Some(scopes) = still_requestable(app, client, scopes) else {
        return Ok(Err(invalid_grant("The app may no longer use any of the scopes")));
    };
    let Some(grant) = oauth_tokens::lock_grant(tx, token.grant, None).await? else {
        return Ok(Err(invalid_grant("The grant has ended")));
    };
    let (format, mut scopes) = match AccessTokenFormat::choose(app, &grant, &resources, scopes) {
        Ok(chosen) => chosen,
        Err(error) => return Ok(Err(error)),
    };
    let presented = request.refresh_token.expose();
    let Some(derived) = app.peppers.derive(&token.pepper_id, &token.salt, presented) else {
        return Ok(Err(invalid_grant("The refresh token is unknown or expired")));
    };
    let successor = KeyFormat::oauth_refresh_token().generate(&derived);
    let (grant, resources, sign_in) = (&grant, &resources, token.sign_in);
    let code = token.code;
    let issue = TokenIssue { client, grant, code, session: None, sign_in, resources, format };
    if token.time_since_use.is_none() {
        let next = (
            token.generation + 1,
            Some(token.absolute_at),
            &token.scopes[..],
            &token.resources[..],
        );
        issue.insert_refresh_token(app, tx, &successor, next, audit).await?;
        oauth_tokens::mark_refresh_token_used(tx, token.id).await?;
    }
    let (access_token, expires_in) = issue.access_token(app, tx, &scopes, audit).await?;
    // Without a nonce (OpenID Connect Core §12.2).
    let id_token = issue.id_token(app, None, (&access_token, &scopes), audit)?;
    scopes.push(OFFLINE_ACCESS.to_owned());
    Ok(Ok(IssuedTokens {
        access_token,
        expires_in,
        refresh_token: Some(successor),
        id_token,
        scopes,
        organization_handle: grant.organization_handle.clone(),
    }))
}

/// Returns the digests under which a text of this format may be stored.
pub(super) fn candidates(app: &App, format: &KeyFormat, text: &Secret) -> Result<Vec<Digest>> {
    if !format.matches(text.expose()) {
        return Err(invalid_grant("The code or token is malformed"));
    }
    Ok(app.peppers.candidates(text.expose()))
}

pub(super) fn invalid_grant(message: &'static str) -> Error {
    Error::new(ErrorKind::Oauth(OauthFailure::InvalidGrant), message)
}
