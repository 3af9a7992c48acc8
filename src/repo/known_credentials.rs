//! Looks up credentials for verifiers, in the one statement for each kind that a check costs. Both
//! statements take many credentials at once and use indexes only. Whether a credential is valid is
//! decided here, by the database's clock.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::allowed_ips::AllowedIps;
use crate::model::ids::{AccountId, KeyId, OrganizationId};
use crate::model::metadata::Metadata;
use crate::model::plan::Plan;
use crate::model::role::Role;
use crate::model::scope::ScopeSet;
use crate::model::secret::Digest;
use crate::model::verification::{
    CredentialAccount, CredentialKind, CredentialOrganization, KnownCredential, VerificationCode,
};

struct Row {
    digest: Vec<u8>,
    id: Uuid,
    name: Option<String>,
    prefix: String,
    display_id: String,
    pepper_id: String,
    scopes: Vec<String>,
    allowed_ips: Vec<IpNet>,
    metadata: Value,
    expires_at: Option<DateTime<Utc>>,
    defect: Option<String>,
    organization_id: Option<Uuid>,
    organization_handle: Option<String>,
    organization_name: Option<String>,
    plan: Option<String>,
    is_suspended: Option<bool>,
    allowed_origins: Option<Vec<String>>,
    account_id: Option<Uuid>,
    email: Option<String>,
    role: Option<String>,
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
        })
    }

    fn account(&mut self) -> Option<CredentialAccount> {
        Some(CredentialAccount {
            id: AccountId::from_uuid(self.account_id?),
            email: self.email.take()?,
        })
    }

    fn into_credential(mut self, kind: CredentialKind) -> Option<(Digest, Arc<KnownCredential>)> {
        let digest = Digest::new(std::mem::take(&mut self.digest).try_into().ok()?);
        let (organization, account) = (self.organization(), self.account());
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
            expires_at: self.expires_at,
            organization,
            account,
            role: self.role.as_deref().and_then(Role::parse),
            defect: self.defect.as_deref().map(parse_defect),
        };
        Some((digest, Arc::new(credential)))
    }
}

/// Reads the statements' word for a defect. An unknown word is one, too.
fn parse_defect(word: &str) -> VerificationCode {
    match word {
        "expired" => VerificationCode::KeyExpired,
        "rotated" => VerificationCode::KeyRotated,
        "disabled" => VerificationCode::KeyDisabled,
        "owner_disabled" => VerificationCode::OwnerDisabled,
        _ => VerificationCode::KeyRevoked,
    }
}

/// Returns the organizations' keys with these digests.
pub async fn find_keys(
    db: &mut PgConnection,
    digests: &[Digest],
) -> Result<HashMap<Digest, Arc<KnownCredential>>> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"select k.digest, k.id, k.name, k.prefix, k.display_id, k.pepper_id, k.scopes,
                  k.allowed_ips, k.metadata, k.expires_at,
                  case when k.revoked_at is not null or o.deleted_at is not null then 'revoked'
                       when k.expires_at <= now() and k.superseded_at is not null then 'rotated'
                       when k.expires_at <= now() then 'expired'
                       when not k.enabled then 'disabled' end as defect,
                  o.id as "organization_id?", o.handle as "organization_handle?",
                  o.name as "organization_name?", o.plan as "plan?",
                  o.suspended_at is not null and o.deleted_at is null as is_suspended,
                  o.allowed_origins as "allowed_origins?",
                  null::uuid as account_id, null as email, null as role
           from api_keys k
           join organizations o on o.id = k.organization_id
           where k.digest = any($1)"#,
        &digests,
    )
    .fetch_all(db)
    .await?;
    let found = rows.into_iter().filter_map(|row| row.into_credential(CredentialKind::ApiKey));
    Ok(found.collect())
}

/// Returns the personal access tokens with these digests. A token acts from the membership that it
/// is pinned to, or else from that in the account's home organization; without it, it is not valid.
pub async fn find_tokens(
    db: &mut PgConnection,
    digests: &[Digest],
) -> Result<HashMap<Digest, Arc<KnownCredential>>> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.bytes().to_vec()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"select t.digest, t.id, t.name as "name?", t.prefix, t.display_id, t.pepper_id, t.scopes,
                  '{}'::cidr[] as "allowed_ips!", '{}'::jsonb as "metadata!", t.expires_at,
                  case when t.revoked_at is not null then 'revoked'
                       when t.expires_at <= now() then 'expired'
                       when not a.is_active or a.deleted_at is not null then 'owner_disabled'
                       when o.id is null then 'owner_disabled' end as defect,
                  o.id as "organization_id?", o.handle as "organization_handle?",
                  o.name as "organization_name?", o.plan as "plan?",
                  o.suspended_at is not null as is_suspended, null::text[] as allowed_origins,
                  a.id as "account_id?", a.email as "email?", u.role as "role?"
           from personal_tokens t
           join accounts a on a.id = t.account_id
           left join users u on u.removed_at is null and
               case when t.pinned_to is null
                    then u.account_id = a.id and u.organization_id = a.home_organization_id
                    else u.id = t.pinned_seat and u.organization_id = t.pinned_to end
           left join organizations o on o.id = u.organization_id and o.deleted_at is null
           where t.digest = any($1)"#,
        &digests,
    )
    .fetch_all(db)
    .await?;
    let found =
        rows.into_iter().filter_map(|row| row.into_credential(CredentialKind::PersonalToken));
    Ok(found.collect())
}
