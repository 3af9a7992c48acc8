//! JWT access tokens (RFC 9068), for services that verify them by themselves. This server accepts
//! them only for introspection and revocation.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::app::openid_signer::OpenidSigner;
use crate::error::Result;
use crate::model::ids::KeyId;
use crate::model::oauth::IdTokenAlgorithm;
use crate::model::oauth::tokens::{SignIn, TokenGrant};
use crate::model::role::Role;
use crate::model::secret::Secret;

/// What a token states.
pub struct JwtAccessTokenContent<'a> {
    /// An id that no other token has.
    pub id: Uuid,
    /// The public id of the client that it is issued to.
    pub client_id: &'a str,
    /// The grant.
    pub grant: &'a TokenGrant,
    /// The scopes, separated by spaces.
    pub scope: String,
    /// The services that it is for.
    pub resources: &'a [String],
    /// The sign-in, where it is known.
    pub sign_in: Option<SignIn>,
    /// From when until when it is valid, in whole seconds.
    pub validity: (DateTime<Utc>, DateTime<Utc>),
}

/// A token's claims (RFC 9068 §2.2). `key_id` is the grant, as in the answers to verifiers and in
/// the list of revocations.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: String,
    aud: Audience<'a>,
    client_id: &'a str,
    iat: i64,
    exp: i64,
    jti: String,
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<i64>,
    key_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
}

/// One service, or several (RFC 7519 §4.1.3).
#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(&'a str),
    Several(&'a [String]),
}

impl<'a> Audience<'a> {
    fn of(resources: &'a [String]) -> Self {
        match resources {
            [resource] => Self::One(resource),
            _ => Self::Several(resources),
        }
    }
}

impl JwtAccessTokenContent<'_> {
    /// Signs the token with RS256, which every service supports (RFC 9068 §2.1).
    ///
    /// # Errors
    /// Internal without a key, or if signing fails.
    pub fn sign(&self, signer: &OpenidSigner) -> Result<Secret> {
        let claims = Claims {
            iss: signer.issuer(),
            sub: self.grant.account.to_string(),
            aud: Audience::of(self.resources),
            client_id: self.client_id,
            iat: self.validity.0.timestamp(),
            exp: self.validity.1.timestamp(),
            jti: self.id.to_string(),
            scope: &self.scope,
            auth_time: self.sign_in.map(|it| it.at.timestamp()),
            key_id: KeyId::from_uuid(self.grant.id.uuid()).to_string(),
            organization_id: self.grant.organization_handle.as_deref(),
            role: self.grant.role.map(Role::as_str),
        };
        signer.sign(IdTokenAlgorithm::Rs256, "at+jwt", &claims)
    }
}
