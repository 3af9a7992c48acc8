//! Looks up credentials for verifiers, in one statement for each kind of credential. The statements
//! take many credentials at once and use indexes only. Whether a credential is valid is
//! decided here, by the database's clock.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::allowed_ips::AllowedIps;
use crate::model::credits::{CreditBalance, Refill};
use crate::model::ids::{AccountId, KeyId, OrganizationId};
use crate::model::key_format::KeyFormat;
use crate::model::metadata::Metadata;
use crate::model::named_limits::NamedLimits;
use crate::model::plan::Plan;
use crate::model::role::Role;
use crate::model::scope::ScopeSet;
use crate::model::secret::Digest;
use crate::model::verification::{
    CredentialAccount, CredentialKind, CredentialOrganization, KnownCredential, OauthFacts,
    VerificationCode,
};

struct Row {
    digest: Vec<u8>,
    id: Uuid,
    name: Option<String>,
    prefix: String,
    display_id: Option<String>,
    pepper_id: Option<String>,
    scopes: Vec<String>,
    allowed_ips: Vec<IpNet>,
    metadata: Value,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    external_id: Option<String>,
    limits: Option<Value>,
    metered_key_id: Option<Uuid>,
    credits: Option<i64>,
    credits_version: Option<i64>,
    refill_amount: Option<i64>,
    refill_interval: Option<String>,
    defect: Option<String>,
    organization_id: Option<Uuid>,
    organization_handle: Option<String>,
    organization_name: Option<String>,
    plan: Option<String>,
    is_suspended: Option<bool>,
    allowed_origins: Option<Vec<String>>,
    organization_external_id: Option<String>,
    organization_metadata: Option<Value>,
    organization_limits: Option<Value>,
    organization_credits: Option<i64>,
    organization_credits_version: Option<i64>,
    organization_refill_amount: Option<i64>,
    organization_refill_interval: Option<String>,
    account_id: Option<Uuid>,
    email: Option<String>,
    role: Option<String>,
    oauth_token_id: Option<Uuid>,
    client_uuid: Option<Uuid>,
    client_id: Option<String>,
    client_organization_id: Option<Uuid>,
    session_id: Option<Uuid>,
    resources: Option<Vec<String>>,
}

impl Row {
    fn organization(&mut self) -> Option<CredentialOrganization> {
        Some(CredentialOrganization {
            id: OrganizationId(self.organization_id?),
            handle: self.organization_handle.take()?,
            name: self.organization_name.take()?,
            plan: Plan::parse(self.plan.as_deref()?)?,
            is_suspended: self.is_suspended.unwrap_or(false),
            allowed_origins: self.allowed_origins.take().unwrap_or_default(),
            external_id: self.organization_external_id.take(),
            metadata: self
                .organization_metadata
                .take()
                .map(Metadata::from_stored)
                .unwrap_or_default(),
            limits: NamedLimits::from_stored(self.organization_limits.take()),
            credits: balance(
                self.organization_id?,
                self.organization_credits.zip(self.organization_credits_version),
                Refill::from_stored(
                    self.organization_refill_amount,
                    self.organization_refill_interval.as_deref(),
                ),
            ),
        })
    }

    fn account(&mut self) -> Option<CredentialAccount> {
        Some(CredentialAccount {
            id: AccountId::from_uuid(self.account_id?),
            email: self.email.take()?,
        })
    }

    fn oauth(&mut self) -> Option<OauthFacts> {
        Some(OauthFacts {
            token: self.oauth_token_id?,
            client: self.client_uuid?,
            client_id: self.client_id.take()?,
            client_organization: OrganizationId(self.client_organization_id?),
            session: self.session_id,
            resources: self.resources.take()?,
        })
    }

    fn into_credential(mut self, kind: CredentialKind) -> Option<(Digest, Arc<KnownCredential>)> {
        let digest = Digest::new(std::mem::take(&mut self.digest).try_into().ok()?);
        let (organization, account, oauth) = (self.organization(), self.account(), self.oauth());
        let metered_key = self.metered_key_id.unwrap_or(self.id);
        let credential = KnownCredential {
            kind,
            id: KeyId::from_uuid(self.id),
            name: self.name,
            prefix: self.prefix,
            display_id: self.display_id,
            pepper_id: self.pepper_id,
            scopes: ScopeSet::from_stored(&self.scopes),
            allowed_ips: AllowedIps::from_stored(self.allowed_ips),
            metadata: Metadata::from_stored(self.metadata),
            created_at: self.created_at,
            expires_at: self.expires_at,
            external_id: self.external_id,
            limits: NamedLimits::from_stored(self.limits),
            credits: balance(
                metered_key,
                self.credits.zip(self.credits_version),
                Refill::from_stored(self.refill_amount, self.refill_interval.as_deref()),
            ),
            metered_key: KeyId::from_uuid(metered_key),
            organization,
            account,
            role: self.role.as_deref().map(Role::from_stored),
            oauth,
            defect: self.defect.as_deref().map(parse_defect),
            description: OnceLock::new(),
        };
        Some((digest, Arc::new(credential)))
    }
}

/// Returns the balance of credits that a statement found; `None` if there is none.
fn balance(id: Uuid, found: Option<(i64, i64)>, refill: Option<Refill>) -> Option<CreditBalance> {
    let (remaining, version) = found?;
    Some(CreditBalance { id, version, remaining, refill })
}

/// Parses the statements' word for a defect. An unknown word counts as revoked.
fn parse_defect(word: &str) -> VerificationCode {
    match word {
        "expired" => VerificationCode::KeyExpired,
        "rotated" => VerificationCode::KeyRotated,
        "disabled" => VerificationCode::KeyDisabled,
        "owner_disabled" => VerificationCode::OwnerDisabled,
        _ => VerificationCode::KeyRevoked,
    }
}

/// Returns the credentials of these kinds with these digests.
pub async fn find(
    db: &mut PgConnection,
    credentials: impl IntoIterator<Item = (CredentialKind, Digest)>,
) -> Result<HashMap<Digest, Arc<KnownCredential>>> {
    let (mut keys, mut tokens, mut oauth_tokens) = (Vec::new(), Vec::new(), Vec::new());
    for (kind, digest) in credentials {
        match kind {
            CredentialKind::ApiKey => keys.push(digest),
            CredentialKind::PersonalToken => tokens.push(digest),
            CredentialKind::OauthToken => oauth_tokens.push(digest),
        }
    }
    let mut found = HashMap::new();
    if !keys.is_empty() {
        found = find_keys(db, &keys).await?;
    }
    if !tokens.is_empty() {
        found.extend(find_tokens(db, &tokens).await?);
    }
    if !oauth_tokens.is_empty() {
        found.extend(find_oauth_tokens(db, &oauth_tokens).await?);
    }
    Ok(found)
}

/// Returns the organizations' keys with these digests.
async fn find_keys(
    db: &mut PgConnection,
    digests: &[Digest],
) -> Result<HashMap<Digest, Arc<KnownCredential>>> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"select k.digest, k.id, k.name, k.prefix, k.display_id as "display_id?",
                  k.pepper_id as "pepper_id?", k.scopes, k.allowed_ips, k.metadata, k.created_at,
                  k.expires_at, k.external_id, k.limits, k.metered_key_id,
                  available_credits(b.remaining, b.refill_amount, b.refill_interval,
                                    b.refilled_at) as "credits?",
                  b.version + (available_credits(b.remaining, b.refill_amount, b.refill_interval,
                                                 b.refilled_at) > b.remaining)::int
                      as "credits_version?",
                  b.refill_amount as "refill_amount?", b.refill_interval as "refill_interval?",
                  case when k.revoked_at is not null or o.deleted_at is not null then 'revoked'
                       when k.expires_at <= now() and k.superseded_at is not null then 'rotated'
                       when k.expires_at <= now() then 'expired'
                       when not k.enabled then 'disabled' end as defect,
                  o.id as "organization_id?", o.handle as "organization_handle?",
                  o.name as "organization_name?", o.plan as "plan?",
                  o.suspended_at is not null and o.deleted_at is null as is_suspended,
                  o.allowed_origins as "allowed_origins?",
                  o.external_id as "organization_external_id?",
                  o.metadata as "organization_metadata?", o.limits as "organization_limits?",
                  available_credits(ob.remaining, ob.refill_amount, ob.refill_interval,
                                    ob.refilled_at) as "organization_credits?",
                  ob.version + (available_credits(ob.remaining, ob.refill_amount,
                                                  ob.refill_interval, ob.refilled_at)
                                > ob.remaining)::int as "organization_credits_version?",
                  ob.refill_amount as "organization_refill_amount?",
                  ob.refill_interval as "organization_refill_interval?",
                  null::uuid as account_id, null as email, null as role,
                  null::uuid as oauth_token_id,
                  null::uuid as client_uuid, null as client_id,
                  null::uuid as client_organization_id, null::uuid as session_id,
                  null::text[] as resources
           from api_keys k
           join organizations o on o.id = k.organization_id
           left join credit_balances b on b.id = coalesce(k.metered_key_id, k.id)
           left join credit_balances ob on ob.id = o.id
           where k.digest = any($1)"#,
        &digests,
    )
    .fetch_all(db)
    .await?;
    let found = rows.into_iter().filter_map(|row| row.into_credential(CredentialKind::ApiKey));
    Ok(found.collect())
}

/// Returns the personal access tokens with these digests. A token acts for the membership that it
/// is pinned with, or else for that in the home organization; without one, it is not valid.
async fn find_tokens(
    db: &mut PgConnection,
    digests: &[Digest],
) -> Result<HashMap<Digest, Arc<KnownCredential>>> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"select t.digest, t.id, t.name as "name?", t.prefix, t.display_id as "display_id?",
                  t.pepper_id as "pepper_id?", t.scopes,
                  '{}'::cidr[] as "allowed_ips!", '{}'::jsonb as "metadata!", t.created_at,
                  t.expires_at,
                  null as external_id, null::jsonb as limits, null::uuid as metered_key_id,
                  null::bigint as credits, null::bigint as credits_version,
                  null::bigint as refill_amount, null as refill_interval,
                  case when t.revoked_at is not null then 'revoked'
                       when t.expires_at <= now() then 'expired'
                       when not a.is_active or a.deleted_at is not null then 'owner_disabled'
                       when o.id is null then 'owner_disabled' end as defect,
                  o.id as "organization_id?", o.handle as "organization_handle?",
                  o.name as "organization_name?", o.plan as "plan?",
                  o.suspended_at is not null as is_suspended, null::text[] as allowed_origins,
                  o.external_id as "organization_external_id?",
                  o.metadata as "organization_metadata?", o.limits as "organization_limits?",
                  available_credits(ob.remaining, ob.refill_amount, ob.refill_interval,
                                    ob.refilled_at) as "organization_credits?",
                  ob.version + (available_credits(ob.remaining, ob.refill_amount,
                                                  ob.refill_interval, ob.refilled_at)
                                > ob.remaining)::int as "organization_credits_version?",
                  ob.refill_amount as "organization_refill_amount?",
                  ob.refill_interval as "organization_refill_interval?",
                  a.id as "account_id?", a.email as "email?", u.role as "role?",
                  null::uuid as oauth_token_id,
                  null::uuid as client_uuid, null as client_id,
                  null::uuid as client_organization_id, null::uuid as session_id,
                  null::text[] as resources
           from personal_tokens t
           join accounts a on a.id = t.account_id
           left join users u on u.account_id = a.id and u.removed_at is null and
               case when t.pinned_to is null
                    then u.organization_id = a.home_organization_id
                    else u.id = t.pinned_seat and u.organization_id = t.pinned_to end
           left join organizations o on o.id = u.organization_id and o.deleted_at is null
           left join credit_balances ob on ob.id = o.id
           where t.digest = any($1)"#,
        &digests,
    )
    .fetch_all(db)
    .await?;
    let found =
        rows.into_iter().filter_map(|row| row.into_credential(CredentialKind::PersonalToken));
    Ok(found.collect())
}

/// Returns the OAuth access tokens with these digests. A token ends with its grant, the grant's
/// membership, account and client, and its session; without an organization it is about its account
/// alone.
async fn find_oauth_tokens(
    db: &mut PgConnection,
    digests: &[Digest],
) -> Result<HashMap<Digest, Arc<KnownCredential>>> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let format = KeyFormat::oauth_token();
    let rows = sqlx::query_as!(
        Row,
        r#"select t.digest, g.id, c.name as "name?", $2 as "prefix!", null as display_id,
                  null as pepper_id, t.scopes, '{}'::cidr[] as "allowed_ips!",
                  '{}'::jsonb as "metadata!", t.created_at,
                  least(t.expires_at, s.expires_at) as "expires_at?",
                  null as external_id, null::jsonb as limits, null::uuid as metered_key_id,
                  null::bigint as credits, null::bigint as credits_version,
                  null::bigint as refill_amount, null as refill_interval,
                  case when t.revoked_at is not null or g.revoked_at is not null
                            or s.revoked_at is not null or co.deleted_at is not null
                       then 'revoked'
                       when least(t.expires_at, s.expires_at) <= now() then 'expired'
                       when c.disabled_at is not null or co.suspended_at is not null
                       then 'disabled'
                       when not a.is_active or a.deleted_at is not null
                            or g.organization_id is not null and o.id is null
                       then 'owner_disabled'
                       -- A private app is for the people of its organization.
                       when g.organization_id is null and c.visibility <> 'public'
                            and not exists (
                                select from users m
                                where m.account_id = t.account_id
                                  and m.organization_id = c.organization_id
                                  and m.removed_at is null)
                       then 'owner_disabled' end as defect,
                  o.id as "organization_id?", o.handle as "organization_handle?",
                  o.name as "organization_name?", o.plan as "plan?",
                  o.suspended_at is not null as is_suspended, null::text[] as allowed_origins,
                  o.external_id as "organization_external_id?",
                  o.metadata as "organization_metadata?", o.limits as "organization_limits?",
                  available_credits(ob.remaining, ob.refill_amount, ob.refill_interval,
                                    ob.refilled_at) as "organization_credits?",
                  ob.version + (available_credits(ob.remaining, ob.refill_amount,
                                                  ob.refill_interval, ob.refilled_at)
                                > ob.remaining)::int as "organization_credits_version?",
                  ob.refill_amount as "organization_refill_amount?",
                  ob.refill_interval as "organization_refill_interval?",
                  a.id as "account_id?", a.email as "email?", u.role as "role?",
                  t.id as "oauth_token_id?", c.id as "client_uuid?", c.client_id as "client_id?",
                  c.organization_id as "client_organization_id?", t.session_id,
                  t.resources as "resources?"
           from oauth_access_tokens t
           join oauth_grants g on g.id = t.grant_id
           join oauth_clients c on c.id = g.client_id
           join organizations co on co.id = c.organization_id
           join accounts a on a.id = t.account_id
           left join sessions s on s.id = t.session_id
           left join users u on u.id = g.user_id and u.organization_id = g.organization_id
                            and u.removed_at is null
           left join organizations o on o.id = u.organization_id and o.deleted_at is null
           left join credit_balances ob on ob.id = o.id
           where t.digest = any($1)"#,
        &digests,
        format.prefix(),
    )
    .fetch_all(db)
    .await?;
    let found = rows.into_iter().filter_map(|row| row.into_credential(CredentialKind::OauthToken));
    Ok(found.collect())
}
