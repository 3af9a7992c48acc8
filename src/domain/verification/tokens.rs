//! Issues short-lived tokens for valid credentials. A service verifies one with the JWKS, without a
//! request, and accepts it until it expires, even if the key is revoked before.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use super::{CheckRequest, Verdict, Verifier, check};
use crate::app::App;
use crate::app::short_lived_tokens::TokenContent;
use crate::entropy::random_base62;
use crate::error::{Error, Issue, Result};
use crate::model::audit::AuditContext;
use crate::model::secret::Secret;
use crate::model::short_lived_token::{Audience, TokenScopes};
use crate::model::verification::{KnownCredential, VerificationCode};

/// The length of a token's id: more than 128 random bits.
const ID_LENGTH: usize = 22;

/// A token to issue.
pub struct TokenRequest {
    /// The service that it is for.
    pub audience: Audience,
    /// Its scopes.
    pub scopes: TokenScopes,
    /// The maximum lifetime.
    pub lifetime: TimeDelta,
}

/// An issued token.
pub struct ShortLivedToken {
    /// The token.
    pub text: Secret,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
}

/// Checks a credential as [`check`] does, and issues a token if it is valid.
///
/// # Errors
/// Conflict without a private key to sign with: then nothing is checked. Invalid if the credential
/// is valid but an OAuth token for other services than the audience, or if the audience takes OAuth
/// access tokens that are JWTs. The errors of [`check`].
pub async fn check_and_issue(
    app: &App,
    verifier: &Verifier,
    (key, request): (&Secret, &CheckRequest),
    token: &TokenRequest,
    audit: &AuditContext,
) -> Result<(Verdict, Option<ShortLivedToken>)> {
    if !app.short_lived_tokens.can_sign() {
        let message = "Tokens require a signing key that others can verify; set JWT_PRIVATE_KEYS";
        return Err(Error::conflict(message));
    }
    if let Err(why) = app.config.oauth.check_audience(token.audience.as_str()) {
        return Err(Error::invalid(vec![Issue::field("audience", why.0)]));
    }
    let verdict = check(app, verifier, key, request, audit).await?;
    let issued = issue(app, &verdict, token, audit.at)?;
    if issued.is_none() && verdict.code == VerificationCode::Valid {
        let issue = Issue::field("audience", "must be a service that the OAuth token is for");
        return Err(Error::invalid(vec![issue]));
    }
    Ok((verdict, issued))
}

/// Issues a token for a valid credential. It expires no later than the credential. `None` for a
/// verdict that is not valid, and for an OAuth token that is not for the audience (RFC 8707): a
/// verifier must not exchange it for a token for another service.
///
/// # Errors
/// Internal if signing fails.
pub fn issue(
    app: &App,
    verdict: &Verdict,
    request: &TokenRequest,
    now: DateTime<Utc>,
) -> Result<Option<ShortLivedToken>> {
    let credential =
        verdict.credential.as_ref().filter(|_| verdict.code == VerificationCode::Valid);
    let Some(credential) = credential else { return Ok(None) };
    let Some(organization) = &credential.organization else { return Ok(None) };
    let (settings, audience) = (&app.config.oauth, request.audience.as_str());
    let oauth = credential.oauth.as_ref();
    if oauth.is_some_and(|oauth| !settings.may_pass_on(&oauth.resources, audience)) {
        return Ok(None);
    }
    let now = now.trunc_subsecs(0);
    let expires_at = now + request.lifetime;
    let expires_at = credential.expires_at.map_or(expires_at, |it| expires_at.min(it));
    let expires_at = expires_at.trunc_subsecs(0);
    let text = app.short_lived_tokens.sign(&TokenContent {
        audience,
        organization: &organization.handle,
        plan: organization.plan.as_str(),
        key: credential.id.to_string(),
        account: credential.account.as_ref().map(|account| account.id.to_string()),
        scope: scope(app, credential, &request.scopes),
        id: random_base62(&*app.entropy, ID_LENGTH),
        validity: (now, expires_at),
    })?;
    Ok(Some(ShortLivedToken { text, expires_at }))
}

/// Returns the `scope` claim.
fn scope(app: &App, credential: &KnownCredential, scopes: &TokenScopes) -> Option<String> {
    let words = match scopes {
        TokenScopes::Own => credential.usable_scopes(&app.config.keys.scopes),
        TokenScopes::Only(scopes) => scopes.iter().map(ToString::to_string).collect(),
        TokenScopes::Unstated => return None,
    };
    Some(words.join(" "))
}
