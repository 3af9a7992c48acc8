//! The verdict of a check in JSON.

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;

use crate::app::rate_limits::RateLimitDecision;
use crate::domain::verification::{QuotaState, Verdict};
use crate::error::{Error, Result};
use crate::http::wire::Timestamp;
use crate::model::verification::{
    CredentialAccount, CredentialDescription, CredentialOrganization, KnownCredential,
    VerificationCode,
};

/// The space for one verdict in a response, in bytes: most are a little smaller.
const VERDICT_BYTES: usize = 768;

/// The verdict on a credential.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::Verification)]
pub struct Verification<'a> {
    #[schema(examples("verification"))]
    object: &'static str,
    /// Whether the request may pass.
    valid: bool,
    /// `valid`, or why not: `key_malformed`, `key_unknown`, `key_revoked`, `key_expired`,
    /// `key_rotated`, `key_disabled`, `owner_disabled`, `organization_suspended`,
    /// `address_not_allowed`, `address_unknown`, `origin_not_allowed`, `scope_missing`,
    /// `rate_limited`, `quota_exceeded` or `credits_exhausted`. Do not tell clients which of the
    /// codes from `key_malformed` to `owner_disabled` it is.
    #[schema(examples("valid"))]
    code: &'static str,
    /// `api_key`, `personal_token` or `oauth_token`; null for an unknown credential.
    #[schema(required, examples("api_key"))]
    credential: Option<&'static str>,
    /// The organization that the credential acts in; null for an unknown credential, and for a
    /// token whose account is no longer a member. A personal access token that is pinned to no
    /// organization acts in its account's home organization.
    #[schema(required, value_type = Option<VerifiedOrganization>)]
    organization: Option<&'a RawValue>,
    /// The key or token; null for an unknown credential.
    #[schema(required, value_type = Option<VerifiedKey>)]
    key: Option<&'a RawValue>,
    /// The account of a personal access token or an OAuth token; null for an organization's key.
    #[schema(required, value_type = Option<VerifiedAccount>)]
    account: Option<&'a RawValue>,
    /// The required scopes that the credential lacks.
    #[schema(examples("docs:write"))]
    missing_scopes: &'a [String],
    /// The rate limits that were checked, up to one that rejected the check.
    limits: Vec<VerifiedLimit<'a>>,
    /// The monthly quota of the organization; null for an unlimited plan, and for a check that was
    /// rejected before the quota was checked.
    #[schema(required)]
    quota: Option<VerifiedQuota>,
    /// The credits of the key or, if they are fewer, of its organization; null if the check needs
    /// none, or was rejected before credits were checked.
    #[schema(required)]
    credits: Option<VerifiedCredits>,
    /// After how many seconds the same request may pass; null if that is unknown, or if waiting
    /// does not change the verdict.
    #[schema(required, examples(30))]
    retry_after: Option<u64>,
    request_id: &'a str,
}

/// An organization.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::Organization)]
pub struct VerifiedOrganization<'a> {
    #[schema(examples("org_79d0fHwDRh"))]
    id: &'a str,
    #[schema(examples("Acme Corp"))]
    name: &'a str,
    #[schema(examples("trial"))]
    plan: &'static str,
    /// The operator's own id for it.
    #[schema(required, examples("cus_1042"))]
    external_id: Option<&'a str>,
    /// The metadata that the operator stores with it.
    #[schema(value_type = Object, examples(json!({ "region": "eu" })))]
    metadata: serde_json::Value,
}

/// A key or a token. An OAuth token counts as its grant.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::Key)]
pub struct VerifiedKey<'a> {
    /// Its id; of an OAuth token, that of its grant, which all tokens of the app for this account
    /// and organization share.
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    /// Its name; of an OAuth token, that of its app.
    #[schema(required, examples("Analytics Dashboard"))]
    name: Option<&'a str>,
    /// The start of its text: the prefix and 4 characters; of an OAuth token, the prefix alone.
    #[schema(examples("tnt_live_LfbR"))]
    prefix: String,
    #[schema(examples("docs:read"))]
    scopes: Vec<String>,
    /// The metadata stored with it.
    #[schema(value_type = Object, examples(json!({ "team": "data" })))]
    metadata: serde_json::Value,
    /// Its id in another system. Customers can set it, so it proves nothing about the organization.
    #[schema(required, examples("cus_1042"))]
    external_id: Option<&'a str>,
    #[schema(required)]
    expires_at: Option<Timestamp>,
}

/// An account.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::Account)]
pub struct VerifiedAccount<'a> {
    #[schema(examples("acc_4fTq0kXyT1"))]
    id: String,
    #[schema(examples("dev@example.com"))]
    email: &'a str,
}

/// A rate limit.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::Limit)]
pub struct VerifiedLimit<'a> {
    /// Its name; `org` for the requests per minute of the organization's plan.
    #[schema(examples("org"))]
    name: &'a str,
    #[schema(examples(600))]
    limit: u32,
    #[schema(examples(599))]
    remaining: u32,
    /// After how many seconds all requests are available again.
    #[schema(examples(1))]
    reset_s: u64,
}

/// Prepaid units.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::Credits)]
pub struct VerifiedCredits {
    /// The units that remain after this check, without those that other servers have taken in
    /// advance.
    #[schema(examples(9_999))]
    remaining: i64,
}

/// A monthly quota.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::Quota)]
pub struct VerifiedQuota {
    /// The requests used this month, including those that this check counts as unless it was
    /// rejected.
    #[schema(examples(1024))]
    used: u64,
    #[schema(examples(100_000))]
    limit: u64,
    resets_at: Timestamp,
}

impl<'a> Verification<'a> {
    /// Describes a verdict.
    pub fn new(verdict: &'a Verdict, request_id: &'a str) -> Self {
        let known = verdict.credential.as_deref();
        let description = known.map(describe);
        Self {
            object: "verification",
            valid: verdict.code == VerificationCode::Valid,
            code: verdict.code.as_str(),
            credential: known.map(|known| known.kind.as_str()),
            organization: description.map(|it| &*it.organization),
            key: description.map(|it| &*it.key),
            account: description.map(|it| &*it.account),
            missing_scopes: &verdict.missing_scopes,
            limits: verdict.limits.iter().map(Into::into).collect(),
            quota: verdict.quota.map(Into::into),
            credits: verdict.credits.map(|remaining| VerifiedCredits { remaining }),
            retry_after: verdict.retry_after.map(|wait| wait.as_secs().max(1)),
            request_id,
        }
    }

    /// Returns the response with this verdict.
    ///
    /// # Errors
    /// Internal if it cannot be serialized, which does not happen.
    pub fn into_response(self) -> Result<Response> {
        to_response(&self, VERDICT_BYTES)
    }
}

/// Returns the parts of a verdict that are about the credential. They are rendered once.
fn describe(known: &KnownCredential) -> &CredentialDescription {
    known.description.get_or_init(|| CredentialDescription {
        organization: to_json(&known.organization.as_ref().map(VerifiedOrganization::from)),
        key: to_json(&VerifiedKey::from(known)),
        account: to_json(&known.account.as_ref().map(VerifiedAccount::from)),
    })
}

/// Returns the value as JSON. Serialization into memory does not fail.
fn to_json(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Returns a response with the value as JSON, of about `size` bytes.
fn to_response(value: &impl Serialize, size: usize) -> Result<Response> {
    let mut body = Vec::with_capacity(size);
    serde_json::to_writer(&mut body, value).map_err(Error::internal)?;
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
}

impl<'a> From<&'a CredentialOrganization> for VerifiedOrganization<'a> {
    fn from(organization: &'a CredentialOrganization) -> Self {
        Self {
            id: &organization.handle,
            name: &organization.name,
            plan: organization.plan.as_str(),
            external_id: organization.external_id.as_deref(),
            metadata: organization.metadata.to_stored(),
        }
    }
}

impl<'a> From<&'a CredentialAccount> for VerifiedAccount<'a> {
    fn from(account: &'a CredentialAccount) -> Self {
        Self { id: account.id.to_string(), email: &account.email }
    }
}

impl<'a> From<&'a KnownCredential> for VerifiedKey<'a> {
    fn from(known: &'a KnownCredential) -> Self {
        let display_id = known.display_id.as_deref().unwrap_or_default();
        let start = display_id.get(..4).unwrap_or(display_id);
        Self {
            id: known.id.to_string(),
            name: known.name.as_deref(),
            prefix: format!("{}{start}", known.prefix),
            scopes: known.scopes.to_stored(),
            metadata: known.metadata.to_stored(),
            external_id: known.external_id.as_deref(),
            expires_at: known.expires_at.map(Timestamp),
        }
    }
}

impl<'a> From<&'a RateLimitDecision> for VerifiedLimit<'a> {
    fn from(decision: &'a RateLimitDecision) -> Self {
        let outcome = &decision.outcome;
        Self {
            name: &decision.name,
            limit: outcome.rate.quota,
            remaining: outcome.remaining,
            reset_s: outcome.until_full.as_secs().max(1),
        }
    }
}

impl From<QuotaState> for VerifiedQuota {
    fn from(quota: QuotaState) -> Self {
        Self { used: quota.used, limit: quota.limit, resets_at: Timestamp(quota.resets_at) }
    }
}

/// The verdicts on several credentials, in the order of the checks.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::Verifications)]
pub struct VerificationList<'a> {
    #[schema(examples("list"))]
    object: &'static str,
    data: Vec<Verification<'a>>,
    request_id: &'a str,
}

impl<'a> VerificationList<'a> {
    /// Describes verdicts.
    pub fn new(verdicts: &'a [Verdict], request_id: &'a str) -> Self {
        let data = verdicts.iter().map(|verdict| Verification::new(verdict, request_id)).collect();
        Self { object: "list", data, request_id }
    }

    /// Returns the response with these verdicts.
    ///
    /// # Errors
    /// As [`Verification::into_response`].
    pub fn into_response(self) -> Result<Response> {
        to_response(&self, self.data.len() * VERDICT_BYTES)
    }
}
