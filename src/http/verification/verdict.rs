//! The verdict of a check in JSON (VERIFY §3).

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::app::rate_limits::RateLimitDecision;
use crate::domain::verification::{QuotaState, Verdict};
use crate::http::wire::Timestamp;
use crate::model::verification::{
    CredentialAccount, CredentialOrganization, KnownCredential, VerificationCode,
};

/// The verdict on a credential.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::Verification)]
pub struct Verification {
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
    /// `api_key` or `personal_token`; null for an unknown credential.
    #[schema(required, examples("api_key"))]
    credential: Option<&'static str>,
    /// The organization that the credential acts in; null for an unknown credential, and for a
    /// personal access token whose account is no longer a member. A personal access token that is
    /// pinned to no organization acts in its account's own.
    #[schema(required)]
    organization: Option<VerifiedOrganization>,
    /// The key or token; null for an unknown credential.
    #[schema(required)]
    key: Option<VerifiedKey>,
    /// The account of a personal access token; null for an organization's key.
    #[schema(required)]
    account: Option<VerifiedAccount>,
    /// The required scopes that the credential lacks.
    #[schema(examples("docs:write"))]
    missing_scopes: Vec<String>,
    /// The rate limits that were checked, up to one that rejected the check.
    limits: Vec<VerifiedLimit>,
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
    request_id: String,
}

/// An organization.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::Organization)]
pub struct VerifiedOrganization {
    #[schema(examples("org_79d0fHwDRh"))]
    id: String,
    #[schema(examples("Acme Corp"))]
    name: String,
    #[schema(examples("trial"))]
    plan: &'static str,
    /// The operator's own id for it.
    #[schema(required, examples("cus_1042"))]
    external_id: Option<String>,
    /// The metadata that the operator stores with it.
    #[schema(value_type = Object, examples(json!({ "region": "eu" })))]
    metadata: serde_json::Value,
}

/// A key or a token.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::Key)]
pub struct VerifiedKey {
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    #[schema(required, examples("Analytics Dashboard"))]
    name: Option<String>,
    /// The start of its text: the prefix and 4 characters.
    #[schema(examples("tnt_live_LfbR"))]
    prefix: String,
    #[schema(examples("docs:read"))]
    scopes: Vec<String>,
    /// The metadata stored with it.
    #[schema(value_type = Object, examples(json!({ "team": "data" })))]
    metadata: serde_json::Value,
    /// Its id in another system. Customers can set it, so it proves nothing about the organization.
    #[schema(required, examples("cus_1042"))]
    external_id: Option<String>,
    #[schema(required)]
    expires_at: Option<Timestamp>,
}

/// An account.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::Account)]
pub struct VerifiedAccount {
    #[schema(examples("acc_4fTq0kXyT1"))]
    id: String,
    #[schema(examples("dev@example.com"))]
    email: String,
}

/// A rate limit.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::Limit)]
pub struct VerifiedLimit {
    /// Its name; `org` for the requests per minute of the organization's plan.
    #[schema(examples("org"))]
    name: Cow<'static, str>,
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

impl Verification {
    /// Describes a verdict.
    pub fn new(verdict: Verdict, request_id: &str) -> Self {
        let retry_after = verdict.retry_after.map(|wait| wait.as_secs().max(1));
        // Copied only if another check of the same batch is about the same credential.
        let known = verdict.credential.map(Arc::unwrap_or_clone);
        Self {
            object: "verification",
            valid: verdict.code == VerificationCode::Valid,
            code: verdict.code.as_str(),
            credential: known.as_ref().map(|known| known.kind.as_str()),
            organization: known.as_ref().and_then(|it| it.organization.as_ref()).map(Into::into),
            account: known.as_ref().and_then(|it| it.account.as_ref()).map(Into::into),
            key: known.map(Into::into),
            missing_scopes: verdict.missing_scopes,
            limits: verdict.limits.into_iter().map(Into::into).collect(),
            quota: verdict.quota.map(Into::into),
            credits: verdict.credits.map(|remaining| VerifiedCredits { remaining }),
            retry_after,
            request_id: request_id.to_owned(),
        }
    }
}

impl From<&CredentialOrganization> for VerifiedOrganization {
    fn from(organization: &CredentialOrganization) -> Self {
        Self {
            id: organization.handle.clone(),
            name: organization.name.clone(),
            plan: organization.plan.as_str(),
            external_id: organization.external_id.clone(),
            metadata: organization.metadata.to_stored(),
        }
    }
}

impl From<&CredentialAccount> for VerifiedAccount {
    fn from(account: &CredentialAccount) -> Self {
        Self { id: account.id.to_string(), email: account.email.clone() }
    }
}

impl From<KnownCredential> for VerifiedKey {
    fn from(known: KnownCredential) -> Self {
        let start = known.display_id.get(..4).unwrap_or(&known.display_id);
        Self {
            id: known.id.to_string(),
            name: known.name,
            prefix: format!("{}{start}", known.prefix),
            scopes: known.scopes.to_stored(),
            metadata: known.metadata.to_stored(),
            external_id: known.external_id,
            expires_at: known.expires_at.map(Timestamp),
        }
    }
}

impl From<RateLimitDecision> for VerifiedLimit {
    fn from(decision: RateLimitDecision) -> Self {
        let outcome = decision.outcome;
        Self {
            name: decision.name,
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
pub struct VerificationList {
    #[schema(examples("list"))]
    pub object: &'static str,
    pub data: Vec<Verification>,
    pub request_id: String,
}
