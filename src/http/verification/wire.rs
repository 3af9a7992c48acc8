//! The requests and responses of the JSON routes (VERIFY §3).

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::app::rate_limits::RateLimitDecision;
use crate::domain::verification::{CheckRequest, QuotaState, Verdict};
use crate::http::body::{Fields, FromFields, JsonNode, text};
use crate::http::wire::Timestamp;
use crate::model::ValidationError;
use crate::model::secret::Secret;
use crate::model::verification::{
    CredentialAccount, CredentialOrganization, KnownCredential, RequiredScopes, VerificationCode,
};

/// The longest text of a credential, in bytes.
const MAX_KEY_LENGTH: usize = 512;
/// The longest resource, in characters.
const MAX_RESOURCE_CHARS: usize = 128;
/// The most units that one check costs.
const MAX_COST: i32 = 1_000_000;

/// A check of one credential.
#[derive(ToSchema)]
#[schema(as = verification::Check, examples(json!({
    "key": "tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz",
    "scopes": [["docs:read"], ["docs:write", "admin:all"]],
    "client": { "ip": "203.0.113.9" },
})))]
pub struct VerifyRequest {
    /// The text that the client presented: an organization's key or a personal access token.
    #[schema(value_type = String, min_length = 1, max_length = 512,
             examples("tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    key: Secret,
    /// The scopes that the request requires: all scopes of any of these lists. Default: none.
    #[schema(value_type = Option<Vec<Vec<String>>>, max_items = 16)]
    scopes: Option<RequiredScopes>,
    /// How many requests of the organization's monthly quota this one counts as. Default: 1.
    #[schema(value_type = Option<i32>, minimum = 0, maximum = 1_000_000, examples(1))]
    cost: Option<i32>,
    /// The template of the route that the client called, for the list of rejections.
    #[schema(value_type = Option<String>, max_length = 128, examples("GET /docs/{id}"))]
    resource: Option<String>,
    /// What the verifier knows of the client.
    client: Option<CheckedClient>,
    /// Whether to count and record nothing. Default: false.
    #[schema(value_type = Option<bool>)]
    dry_run: Option<bool>,
}

/// What the verifier knows of the client.
#[derive(ToSchema)]
#[schema(as = verification::Client)]
pub struct CheckedClient {
    /// Its address. A key with allowed addresses is rejected without it.
    #[schema(value_type = Option<String>, examples("203.0.113.9"))]
    ip: Option<IpAddr>,
    /// The `Origin` header that it sent.
    #[schema(value_type = Option<String>, max_length = 256, examples("https://app.example.com"))]
    origin: Option<String>,
}

impl FromFields for VerifyRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let key = fields.required("key", parse_key);
        let scopes = fields.optional("scopes", parse_scopes);
        let cost = fields.optional("cost", |node| node.into_integer(0..=MAX_COST));
        let resource = fields.optional("resource", text(|it| visible(it, MAX_RESOURCE_CHARS)));
        let client = fields.optional_object("client");
        let dry_run = fields.optional("dry_run", JsonNode::into_bool);
        Some(Self { key: key?, scopes, cost, resource, client, dry_run })
    }
}

impl FromFields for CheckedClient {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let ip = fields.optional("ip", text(parse_address));
        let origin = fields.optional("origin", text(|it| visible(it, 256)));
        Some(Self { ip, origin })
    }
}

impl VerifyRequest {
    /// Returns the credential's text and the check of it.
    pub fn into_check(self) -> (Secret, CheckRequest) {
        let Self { key, scopes, cost, resource, client, dry_run } = self;
        let (client_address, client_origin) =
            client.map_or((None, None), |client| (client.ip, client.origin));
        let check = CheckRequest {
            scopes: scopes.unwrap_or_default(),
            cost: cost.and_then(|cost| u32::try_from(cost).ok()).unwrap_or(1),
            client_address,
            client_origin,
            is_dry_run: dry_run.unwrap_or(false),
            method_and_path: (
                "POST".to_owned(),
                resource.unwrap_or_else(|| "/v1/verify".to_owned()),
            ),
        };
        (key, check)
    }
}

/// Several checks.
#[derive(ToSchema)]
#[schema(as = verification::Checks)]
pub struct VerifyBatchRequest {
    /// 1 to 100 checks.
    #[schema(min_items = 1, max_items = 100)]
    pub items: Vec<VerifyRequest>,
}

impl FromFields for VerifyBatchRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { items: fields.required_objects("items", 1..=100)? })
    }
}

fn parse_key(node: JsonNode) -> Result<Secret, ValidationError> {
    match node.into_string()? {
        text if text.is_empty() => Err("must not be empty".into()),
        text if text.len() > MAX_KEY_LENGTH => {
            Err(format!("must be at most {MAX_KEY_LENGTH} bytes long").into())
        }
        text => Ok(Secret::new(text)),
    }
}

fn parse_scopes(node: JsonNode) -> Result<RequiredScopes, ValidationError> {
    let JsonNode::Array(lists) = node else {
        return Err("must be a list of lists of scopes".into());
    };
    let lists: Result<Vec<_>, _> = lists.into_iter().map(JsonNode::into_strings).collect();
    RequiredScopes::parse(&lists.map_err(|_| "must be a list of lists of scopes")?)
}

fn parse_address(text: &str) -> Result<IpAddr, ValidationError> {
    let address: IpAddr = text.parse().map_err(|_| "must be an IPv4 or IPv6 address")?;
    Ok(address.to_canonical())
}

fn visible(text: &str, max: usize) -> Result<String, ValidationError> {
    if text.is_empty() || text.chars().count() > max {
        return Err(format!("must be 1 to {max} characters long").into());
    }
    if text.contains(char::is_control) {
        return Err("must not contain control characters".into());
    }
    Ok(text.to_owned())
}

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
    /// `rate_limited` or `quota_exceeded`. Clients must not learn what distinguishes the first
    /// seven.
    #[schema(examples("valid"))]
    code: &'static str,
    /// `api_key` or `personal_token`; null for an unknown credential.
    #[schema(required, examples("api_key"))]
    credential: Option<&'static str>,
    /// The organization that the credential acts in; null for an unknown credential. A personal
    /// access token that is pinned to no organization acts in its account's own.
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
    /// The rate limits that the check was counted against.
    limits: Vec<VerifiedLimit>,
    /// The monthly quota of the organization; null for an unlimited plan.
    #[schema(required)]
    quota: Option<VerifiedQuota>,
    /// After how many seconds the same request may pass; null where that is unknown.
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
    /// `org` for the requests per minute of the organization's plan.
    #[schema(examples("org"))]
    name: &'static str,
    #[schema(examples(600))]
    limit: u32,
    #[schema(examples(599))]
    remaining: u32,
    /// After how many seconds all requests are available again.
    #[schema(examples(1))]
    reset_s: u64,
}

/// A monthly quota.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::Quota)]
pub struct VerifiedQuota {
    /// The requests used this month, this one included.
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
            retry_after,
            request_id: request_id.to_owned(),
        }
    }
}

impl From<&CredentialOrganization> for VerifiedOrganization {
    fn from(organization: &CredentialOrganization) -> Self {
        let (id, name) = (organization.handle.clone(), organization.name.clone());
        Self { id, name, plan: organization.plan.as_str() }
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
