//! What the token endpoint issues: access tokens in the format that their services take, ID tokens
//! and refresh tokens.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::App;
use crate::app::id_tokens::IdTokenContent;
use crate::app::jwt_access_tokens::JwtAccessTokenContent;
use crate::error::{Error, ErrorKind, OauthFailure, Result};
use crate::model::audit::AuditContext;
use crate::model::ids::new_uuid;
use crate::model::key_format::KeyFormat;
use crate::model::oauth::OpenidScope;
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::grant::permitted_scopes;
use crate::model::oauth::tokens::{
    ACCESS_LIFETIME_WITH_REFRESH, ACCESS_LIFETIME_WITHOUT_REFRESH, JWT_LIFETIME, NewAccessToken,
    NewRefreshToken, REFRESH_ABSOLUTE, REFRESH_IDLE, SignIn, TokenGrant,
};
use crate::model::secret::{Digest, Secret};
use crate::repo::oauth_tokens;

/// The format of an access token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AccessTokenFormat {
    /// A random text, which is looked up at each use.
    Opaque,
    /// A JWT (RFC 9068), which a service verifies by itself.
    Jwt,
}

impl AccessTokenFormat {
    /// Returns the format that all of these resources take, and the scopes of a token in it. A JWT
    /// has only those that the account's role permits now: its service does not ask again.
    ///
    /// # Errors
    /// Invalid target if there is no such format, or if the grant's organization is suspended and a
    /// JWT would hide that; invalid scope if no scope is left.
    pub fn choose(
        app: &App,
        grant: &TokenGrant,
        resources: &[String],
        scopes: Vec<String>,
    ) -> Result<(Self, Vec<String>)> {
        let format = Self::of(app, grant, resources)?;
        if format == Self::Opaque {
            return Ok((format, scopes));
        }
        let permitted = permitted_scopes(&scopes, grant.role);
        if permitted.is_empty() {
            let message = "The account's role permits none of the scopes";
            return Err(Error::new(ErrorKind::Oauth(OauthFailure::InvalidScope), message));
        }
        Ok((format, permitted))
    }

    fn of(app: &App, grant: &TokenGrant, resources: &[String]) -> Result<Self> {
        let takes_jwt = |resource: &&String| app.config.oauth.takes_jwt(resource);
        let jwt_resources = resources.iter().filter(takes_jwt).count();
        let problem = match jwt_resources {
            0 => return Ok(Self::Opaque),
            count if count < resources.len() => {
                "These services take tokens of different formats; name one `resource`"
            }
            _ if grant.is_suspended => "The organization is suspended",
            _ => return Ok(Self::Jwt),
        };
        Err(Error::new(ErrorKind::Oauth(OauthFailure::InvalidTarget), problem))
    }
}

/// What tokens are issued for.
pub(super) struct TokenIssue<'a> {
    pub client: &'a OauthClient,
    pub grant: &'a TokenGrant,
    /// The digest of the code that the tokens originate from.
    pub code: Digest,
    /// The session that the access token ends with.
    pub session: Option<Uuid>,
    pub sign_in: Option<SignIn>,
    pub resources: &'a [String],
    pub format: AccessTokenFormat,
}

/// The place of a refresh token in its chain, when the chain ends, its scopes and its resources.
pub(super) type RefreshTokenPosition<'a> = (i32, Option<DateTime<Utc>>, &'a [String], &'a [String]);

impl TokenIssue<'_> {
    /// Issues an access token with these scopes; returns it and its lifetime in seconds.
    pub async fn access_token(
        &self,
        app: &App,
        tx: &mut PgConnection,
        scopes: &[String],
        audit: &AuditContext,
    ) -> Result<(Secret, u64)> {
        let id = new_uuid(audit.at, &*app.entropy);
        let (text, lifetime) = match self.format {
            AccessTokenFormat::Opaque => {
                let has_refresh_token = self.session.is_none();
                let lifetime = if has_refresh_token {
                    ACCESS_LIFETIME_WITH_REFRESH
                } else {
                    ACCESS_LIFETIME_WITHOUT_REFRESH
                };
                (KeyFormat::oauth_token().generate(&*app.entropy), lifetime)
            }
            AccessTokenFormat::Jwt => (self.jwt(app, id, scopes, audit)?, JWT_LIFETIME),
        };
        let token = NewAccessToken {
            id,
            digest: app.peppers.digest(text.expose()).0,
            grant: self.grant,
            session: self.session,
            scopes,
            resources: self.resources,
            lifetime,
        };
        oauth_tokens::insert_access_token(tx, &token).await?;
        Ok((text, lifetime.as_secs()))
    }

    fn jwt(&self, app: &App, id: Uuid, scopes: &[String], audit: &AuditContext) -> Result<Secret> {
        let lifetime = TimeDelta::from_std(JWT_LIFETIME).map_err(Error::internal)?;
        let content = JwtAccessTokenContent {
            id,
            client_id: &self.client.client_id,
            grant: self.grant,
            scope: scopes.join(" "),
            resources: self.resources,
            sign_in: self.sign_in,
            validity: (audit.at, audit.at + lifetime),
        };
        content.sign(&app.openid_signer)
    }

    /// Returns the ID token beside an access token with these scopes; `None` without `openid`, or
    /// if the organization is suspended.
    pub fn id_token(
        &self,
        app: &App,
        nonce: Option<&str>,
        (access_token, scopes): (&Secret, &[String]),
        audit: &AuditContext,
    ) -> Result<Option<Secret>> {
        let is_openid = scopes.iter().any(|scope| scope == OpenidScope::Openid.as_str());
        if !is_openid || self.grant.is_suspended {
            return Ok(None);
        }
        let content = IdTokenContent {
            client_id: &self.client.client_id,
            algorithm: self.client.id_token_algorithm,
            account: self.grant.account,
            organization: self.grant.organization_handle.as_deref(),
            nonce,
            sign_in: self.sign_in,
            access_token,
            issued_at: audit.at,
        };
        content.sign(&app.openid_signer).map(Some)
    }

    /// Inserts a refresh token.
    pub async fn insert_refresh_token(
        &self,
        app: &App,
        tx: &mut PgConnection,
        text: &Secret,
        (generation, absolute_at, scopes, resources): RefreshTokenPosition<'_>,
        audit: &AuditContext,
    ) -> Result<()> {
        let (digest, pepper_id) = app.peppers.digest(text.expose());
        let mut salt = [0; 32];
        app.entropy.fill(&mut salt);
        let token = NewRefreshToken {
            id: new_uuid(audit.at, &*app.entropy),
            digest,
            grant: self.grant,
            code: self.code,
            generation,
            salt,
            pepper_id,
            scopes,
            resources,
            sign_in: self.sign_in,
            idle: REFRESH_IDLE,
            absolute_at,
            absolute: REFRESH_ABSOLUTE,
        };
        oauth_tokens::insert_refresh_token(tx, &token).await
    }
}
