//! Authorization requests that wait for a person's answer.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use sqlx::types::Json;

use crate::error::Result;
use crate::model::ids::SessionId;
use crate::model::oauth::OpenidScope;
use crate::model::oauth::authorization_request::{AuthorizationRequest, Prompt, RequestedAccess};
use crate::model::oauth::authorization_response::{ResponseMode, ResponseTarget};
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::resource::Resource;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::scope::Scope;
use crate::model::secret::Digest;

/// A request, as the column `parameters` contains it.
#[derive(Debug, Serialize, Deserialize)]
struct Parameters {
    redirect_uri: String,
    response_mode: String,
    state: Option<String>,
    /// Absent in a row of an earlier version.
    #[serde(default)]
    openid_scopes: Vec<String>,
    scopes: Vec<String>,
    is_offline: bool,
    resources: Vec<String>,
    challenge: String,
    nonce: Option<String>,
    prompts: Vec<String>,
    max_age: Option<u32>,
    login_hint: Option<String>,
    organization: Option<String>,
}

impl From<&AuthorizationRequest> for Parameters {
    fn from(request: &AuthorizationRequest) -> Self {
        Self {
            redirect_uri: request.target.redirect_uri.clone(),
            response_mode: request.target.mode.as_str().to_owned(),
            state: request.target.state.clone(),
            openid_scopes: texts(&request.access.openid_scopes, |it| it.as_str().to_owned()),
            scopes: texts(&request.access.scopes, ToString::to_string),
            is_offline: request.access.is_offline,
            resources: texts(&request.access.resources, |it| it.as_str().to_owned()),
            challenge: request.challenge.clone(),
            nonce: request.nonce.clone(),
            prompts: request.prompts.iter().map(|it| it.as_str().to_owned()).collect(),
            max_age: request.max_age,
            login_hint: request.login_hint.clone(),
            organization: request.organization.as_ref().map(|it| it.as_str().to_owned()),
        }
    }
}

/// Returns the texts of some values.
fn texts<T>(values: &[T], text: impl Fn(&T) -> String) -> Vec<String> {
    values.iter().map(text).collect()
}

impl Parameters {
    /// Returns the request; `None` only for a row that this version did not write.
    fn into_request(self) -> Option<AuthorizationRequest> {
        let openid_scopes = self.openid_scopes.iter().map(|text| OpenidScope::parse(text));
        let scopes = self.scopes.iter().map(|text| Scope::parse(text).ok());
        let resources = self.resources.iter().map(|text| Resource::parse(text).ok());
        let prompts = self.prompts.iter().map(|word| Prompt::parse(word));
        Some(AuthorizationRequest {
            target: ResponseTarget {
                redirect_uri: self.redirect_uri,
                mode: ResponseMode::parse(&self.response_mode)?,
                state: self.state,
            },
            access: RequestedAccess {
                openid_scopes: openid_scopes.collect::<Option<_>>()?,
                scopes: scopes.collect::<Option<_>>()?,
                is_offline: self.is_offline,
                resources: resources.collect::<Option<_>>()?,
            },
            challenge: self.challenge,
            nonce: self.nonce,
            prompts: prompts.collect::<Option<_>>()?,
            max_age: self.max_age,
            login_hint: self.login_hint,
            organization: self.organization.and_then(|it| OrganizationHandle::parse(&it).ok()),
        })
    }
}

/// A request to insert.
pub struct NewRequest<'a> {
    /// The digest of its handle.
    pub digest: Digest,
    /// The client that made it.
    pub client: &'a OauthClient,
    /// Its parameters.
    pub request: &'a AuthorizationRequest,
    /// The digest of the cookie of the browser that it came from.
    pub browser: Digest,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// For how long it can be answered, by the database's clock.
    pub lifetime: Duration,
}

/// Inserts a request.
pub async fn insert(db: &mut PgConnection, new: &NewRequest<'_>) -> Result<()> {
    sqlx::query!(
        "insert into oauth_requests (digest, client_id, organization_id, parameters,
                                     browser_digest, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))",
        new.digest.bytes().as_slice(),
        new.client.id,
        new.client.organization.0,
        Json(Parameters::from(new.request)) as _,
        new.browser.bytes().as_slice(),
        new.created_at,
        new.lifetime.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A request that was not answered yet.
pub struct StoredRequest {
    /// The digest of its handle.
    pub digest: Digest,
    /// The public id of the client that made it.
    pub client_id: String,
    /// Its parameters.
    pub request: AuthorizationRequest,
    /// The digest of the cookie of the browser that it came from.
    pub browser: Digest,
    /// The session in which its consent page was last shown.
    pub shown_in: Option<SessionId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// Returns the request whose handle has one of these digests, if it was neither answered nor has
/// expired.
pub async fn find(db: &mut PgConnection, digests: &[Digest]) -> Result<Option<StoredRequest>> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let row = sqlx::query!(
        r#"select r.digest, c.client_id, r.parameters as "parameters: Json<Parameters>",
                  r.browser_digest, r.shown_in, r.created_at
           from oauth_requests r join oauth_clients c on c.id = r.client_id
           where r.digest = any($1) and r.used_at is null and r.expires_at > now()"#,
        &digests,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(|row| {
        Some(StoredRequest {
            digest: Digest::new(row.digest.try_into().ok()?),
            client_id: row.client_id,
            request: row.parameters.0.into_request()?,
            browser: Digest::new(row.browser_digest.try_into().ok()?),
            shown_in: row.shown_in.map(SessionId::from_uuid),
            created_at: row.created_at,
        })
    }))
}

/// Records in which session the consent page of a request is shown.
pub async fn record_shown(db: &mut PgConnection, digest: Digest, session: SessionId) -> Result<()> {
    sqlx::query!(
        "update oauth_requests set shown_in = $2
         where digest = $1 and used_at is null and shown_in is distinct from $2",
        digest.bytes().as_slice(),
        session.uuid(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Records that a request was answered. Returns false if it was answered already or has expired: of
/// several concurrent answers, one succeeds.
pub async fn consume(db: &mut PgConnection, digest: Digest, at: DateTime<Utc>) -> Result<bool> {
    let result = sqlx::query!(
        "update oauth_requests set used_at = $2
         where digest = $1 and used_at is null and expires_at > now()",
        digest.bytes().as_slice(),
        at,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Removes up to 1,000 expired requests; returns how many. Applies to all organizations.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let result = sqlx::query!(
        "delete from oauth_requests
         where digest = any(array(
             select digest from oauth_requests where expires_at < now() - interval '1 hour'
             limit 1000 for update skip locked))",
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
