//! Signs ID tokens (`OpenID` Connect Core §2): they tell a client who signed in, when and how. They
//! are not credentials: this server accepts none.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::app::openid_signer::OpenidSigner;
use crate::error::Result;
use crate::model::ids::{AccountId, SessionId};
use crate::model::jwt::access_token_hash;
use crate::model::oauth::IdTokenAlgorithm;
use crate::model::oauth::tokens::SignIn;
use crate::model::secret::Secret;

/// For how long a token is valid.
const LIFETIME: TimeDelta = TimeDelta::minutes(10);

/// What a token states.
pub struct IdTokenContent<'a> {
    /// The public id of the client that it is for.
    pub client_id: &'a str,
    /// How the client wants it to be signed.
    pub algorithm: IdTokenAlgorithm,
    /// The account that signed in.
    pub account: AccountId,
    /// The public id of the organization of the grant.
    pub organization: Option<&'a str>,
    /// The nonce of the authorization request; `None` in the response to a refresh.
    pub nonce: Option<&'a str>,
    /// The sign-in; `None` for a refresh token of an earlier version, which does not know it.
    pub sign_in: Option<SignIn>,
    /// The access token that is issued beside it.
    pub access_token: &'a Secret,
    /// When it is issued.
    pub issued_at: DateTime<Utc>,
}

/// A token's claims.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: String,
    aud: &'a str,
    exp: i64,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    at_hash: String,
    /// How the person signed in (RFC 8176).
    amr: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<&'a str>,
}

impl IdTokenContent<'_> {
    /// Signs the token as the client wants it, or with RS256 if there is no key for that any more.
    ///
    /// # Errors
    /// Internal without a key, or if signing fails.
    pub fn sign(&self, signer: &OpenidSigner) -> Result<Secret> {
        let sid = |it: SignIn| SessionId::from_uuid(it.session).to_string();
        let claims = Claims {
            iss: signer.issuer(),
            sub: self.account.to_string(),
            aud: self.client_id,
            exp: (self.issued_at + LIFETIME).timestamp(),
            iat: self.issued_at.timestamp(),
            auth_time: self.sign_in.map(|it| it.at.timestamp()),
            nonce: self.nonce,
            sid: self.sign_in.map(sid),
            at_hash: access_token_hash(self.access_token),
            amr: ["pwd"],
            organization_id: self.organization,
        };
        signer.sign(self.algorithm, "JWT", &claims)
    }
}
