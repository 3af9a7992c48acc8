//! API keys. They are listed in [`super::key_lists`]; callers are looked up in [`super::callers`],
//! and keys end in [`super::key_lifecycle`].

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::allowed_ips::AllowedIps;
use crate::model::api_key::{ApiKey, NewApiKey};
use crate::model::credits::Credits;
use crate::model::ids::{KeyId, MembershipId, OrganizationId};
use crate::model::metadata::Metadata;
use crate::model::named_limits::NamedLimits;
use crate::model::names::{ExternalId, KeyName};
use crate::model::scope::ScopeSet;
use crate::model::secret::Digest;
use crate::repo::MapConstraintViolations;

/// The unique constraint on names, and its message.
const NAME_TAKEN: (&str, &str) =
    ("api_keys_held_name_key", "A live key of this organization already has this name");

/// A key's row. `is_active` is decided by the database's clock.
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) user_id: Uuid,
    pub(super) prefix: String,
    pub(super) display_id: String,
    pub(super) name: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) is_active: bool,
    pub(super) created_at: DateTime<Utc>,
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) last_used_at: Option<DateTime<Utc>>,
    pub(super) revoked_at: Option<DateTime<Utc>>,
    pub(super) revoked_reason: Option<String>,
    pub(super) enabled: bool,
    pub(super) allowed_ips: Vec<IpNet>,
    pub(super) metadata: serde_json::Value,
    pub(super) external_id: Option<String>,
    pub(super) limits: Option<serde_json::Value>,
    pub(super) metered_key_id: Option<Uuid>,
    pub(super) credits: Option<i64>,
    pub(super) refill_amount: Option<i64>,
    pub(super) refill_interval: Option<String>,
    pub(super) rotated_from: Option<Uuid>,
    pub(super) rotated_to: Option<Uuid>,
}

impl From<Row> for ApiKey {
    fn from(row: Row) -> Self {
        Self {
            id: KeyId::from_uuid(row.id),
            membership: MembershipId(row.user_id),
            prefix: row.prefix,
            display_id: row.display_id,
            name: row.name,
            scopes: ScopeSet::from_stored(&row.scopes),
            is_active: row.is_active,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            revoked_at: row.revoked_at,
            revoked_reason: row.revoked_reason,
            enabled: row.enabled,
            allowed_ips: AllowedIps::from_stored(row.allowed_ips),
            metadata: Metadata::from_stored(row.metadata),
            external_id: row.external_id,
            limits: NamedLimits::from_stored(row.limits),
            credits: row.credits.map(|remaining| {
                Credits::from_stored(remaining, row.refill_amount, row.refill_interval.as_deref())
            }),
            metered_key: KeyId::from_uuid(row.metered_key_id.unwrap_or(row.id)),
            rotated_from: row.rotated_from.map(KeyId::from_uuid),
            rotated_to: row.rotated_to.map(KeyId::from_uuid),
        }
    }
}

/// Inserts a key and returns it. Takes over its name from a key that has expired.
///
/// # Errors
/// Conflict if a live key of the organization has the name, the digest exists, or the key that this
/// one replaces was rotated already.
pub async fn insert(db: &mut PgConnection, key: &NewApiKey<'_>) -> Result<ApiKey> {
    if let Some(inserted) = try_insert(db, key).await? {
        return Ok(inserted);
    }
    if let Some(name) = key.name {
        release_name(db, key.organization, name).await?;
    }
    try_insert(db, key).await?.ok_or_else(|| Error::conflict(NAME_TAKEN.1))
}

/// Inserts a key, or returns `None` if another one has its name. The unique index of names decides,
/// so the number of keys hardly affects the time.
///
/// The successor of a key that was enabled again after it was reported as leaked counts as
/// reported, too. Otherwise anyone who reads a public key could disable it after each rotation. If
/// the policy is to notify, no key is disabled, and a leak of the successor is reported again.
async fn try_insert(db: &mut PgConnection, key: &NewApiKey<'_>) -> Result<Option<ApiKey>> {
    let row = sqlx::query_as!(
        Row,
        r#"insert into api_keys (id, organization_id, user_id, digest, pepper_id, prefix,
                                 display_id, name, name_held, scopes, created_at, expires_at,
                                 allowed_ips, metadata, enabled, rotated_from, external_id,
                                 limits, metered_key_id, leaked_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8::text, $8::text is not null, $9, $10, $11, $12,
                 $13, $14, $15, $16, $17, $18,
                 (select k.leaked_at from api_keys k
                  join organizations o on o.id = k.organization_id
                  where k.id = $15 and (k.organization_id = $2) is true and $14::bool
                    and o.leak_policy <> 'notify'))
         on conflict (organization_id, name) where name_held do nothing
         returning id, user_id, prefix, display_id, name, scopes, created_at, expires_at,
                   last_used_at, revoked_at, revoked_reason, enabled, allowed_ips, metadata,
                   external_id, limits, metered_key_id, null::bigint as credits,
                   null::bigint as refill_amount, null::text as refill_interval,
                   rotated_from, null::uuid as rotated_to,
                   (expires_at is null or expires_at > now()) as "is_active!""#,
        key.id.uuid(),
        key.organization.0,
        key.membership.0,
        key.digest.bytes().as_slice(),
        key.pepper_id,
        key.prefix,
        key.display_id,
        key.name.map(KeyName::as_str),
        &key.scopes.to_stored(),
        key.created_at,
        key.expires_at,
        key.allowed_ips.as_stored(),
        key.metadata.to_stored(),
        key.enabled,
        key.rotated_from.map(KeyId::uuid),
        key.external_id.map(ExternalId::as_str),
        key.limits.to_stored(),
        key.metered_key.map(KeyId::uuid),
    )
    .fetch_optional(db)
    .await
    .map_constraint_violations(&[
        ("api_keys_digest_key", "A key with this text already exists"),
        ("api_keys_rotated_from_key", "This key was rotated already"),
    ])?;
    Ok(row.map(ApiKey::from))
}

/// Releases a name from the expired key that has it, if any. If another transaction has that key's
/// lock, the name stays taken: waiting for it here, with locks of other keys, could deadlock.
async fn release_name(
    db: &mut PgConnection,
    organization: OrganizationId,
    name: &KeyName,
) -> Result<()> {
    sqlx::query!(
        "update api_keys set name_held = false
         where id = any(array(
             select id from api_keys
             where organization_id = $1 and name = $2 and name_held and expires_at <= now()
             for update skip locked))",
        organization.0,
        name.as_str(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns a key of the organization, if it exists.
pub async fn find(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: KeyId,
) -> Result<Option<ApiKey>> {
    let row = sqlx::query_as!(
        Row,
        r#"select k.id, k.user_id, k.prefix, k.display_id, k.name, k.scopes, k.created_at,
                  k.expires_at, k.last_used_at, k.revoked_at, k.revoked_reason, k.enabled,
                  k.allowed_ips, k.metadata, k.external_id, k.limits, k.metered_key_id,
                  available_credits(b.remaining, b.refill_amount, b.refill_interval,
                                    b.refilled_at) as "credits?",
                  b.refill_amount as "refill_amount?", b.refill_interval as "refill_interval?",
                  k.rotated_from, n.id as "rotated_to?",
                  (k.revoked_at is null and (k.expires_at is null or k.expires_at > now()))
                      as "is_active!"
           from api_keys k
           left join api_keys n
             on n.rotated_from = k.id and (n.organization_id = k.organization_id) is true
           left join credit_balances b
             on b.id = coalesce(k.metered_key_id, k.id)
            and (b.organization_id = k.organization_id) is true
           where k.id = $2 and (k.organization_id = $1) is true"#,
        organization.0,
        id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(ApiKey::from))
}

/// Locks keys of the organization until the transaction ends, in the order of their ids, so that
/// two transactions cannot deadlock.
pub async fn lock(
    db: &mut PgConnection,
    organization: OrganizationId,
    ids: &[KeyId],
) -> Result<()> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    sqlx::query!(
        "select id from api_keys where id = any($2) and (organization_id = $1) is true
         order by id for no key update",
        organization.0,
        &ids,
    )
    .fetch_all(db)
    .await?;
    Ok(())
}

/// Stores the limits of keys.
pub async fn set_limits(
    db: &mut PgConnection,
    organization: OrganizationId,
    ids: &[KeyId],
    limits: &NamedLimits,
) -> Result<()> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    sqlx::query!(
        "update api_keys set limits = $3
         where id = any($2) and (organization_id = $1) is true",
        organization.0,
        &ids,
        limits.to_stored(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Stores the updated settings of a live key, without its limits and credits.
///
/// # Errors
/// Conflict if another live key has the name; internal if the key does not exist, which is a
/// defect, since the caller has its lock.
pub async fn update(
    db: &mut PgConnection,
    organization: OrganizationId,
    key: &ApiKey,
    name: Option<&KeyName>,
) -> Result<()> {
    if let Some(name) = name {
        release_name(db, organization, name).await?;
    }
    let result = sqlx::query!(
        "update api_keys set name = $3::text, name_held = $3::text is not null, scopes = $4,
                expires_at = $5, metadata = $6, allowed_ips = $7, enabled = $8,
                external_id = $9
         where id = $2 and (organization_id = $1) is true",
        organization.0,
        key.id.uuid(),
        key.name,
        &key.scopes.to_stored(),
        key.expires_at,
        key.metadata.to_stored(),
        key.allowed_ips.as_stored(),
        key.enabled,
        key.external_id,
    )
    .execute(db)
    .await
    .map_constraint_violations(&[NAME_TAKEN])?;
    match result.rows_affected() {
        1 => Ok(()),
        _ => Err(Error::internal("a locked key does not exist")),
    }
}

/// Assigns a key to another membership if an owner created it and the owner's membership has not
/// ended. Returns whether it did.
pub async fn reassign_from_owner(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: KeyId,
    membership: MembershipId,
) -> Result<bool> {
    let result = sqlx::query!(
        "update api_keys k set user_id = $3
         from users u
         where k.id = $2 and (k.organization_id = $1) is true
           and u.organization_id = k.organization_id and u.id = k.user_id
           and u.role = 'owner' and u.removed_at is null",
        organization.0,
        id.uuid(),
        membership.0,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Stores a key's digest under the newest pepper. Of two concurrent calls, the first takes effect.
pub async fn rehash(
    db: &mut PgConnection,
    organization: OrganizationId,
    id: KeyId,
    digest: Digest,
    pepper_id: &str,
) -> Result<()> {
    sqlx::query!(
        "update api_keys set digest = $3, pepper_id = $4
         where id = $2 and (organization_id = $1) is true and pepper_id <> $4",
        organization.0,
        id.uuid(),
        digest.bytes().as_slice(),
        pepper_id,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the number of the organization's live keys, including disabled ones.
pub async fn count(db: &mut PgConnection, organization: OrganizationId) -> Result<u64> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from api_keys
           where organization_id = $1 and revoked_at is null and superseded_at is null
             and (expires_at is null or expires_at > now())"#,
        organization.0,
    )
    .fetch_one(db)
    .await?;
    u64::try_from(count).map_err(Error::internal)
}

/// Returns the number of keys and personal access tokens that each pepper digests and that have not
/// ended, for an operator who wants to remove a pepper.
pub async fn count_per_pepper(db: &mut PgConnection) -> Result<Vec<(String, i64)>> {
    let rows = sqlx::query!(
        r#"select pepper_id as "pepper_id!", count(*) as "count!"
           from (select pepper_id, revoked_at, expires_at from api_keys
                 union all
                 select pepper_id, revoked_at, expires_at from personal_tokens) k
           where revoked_at is null and (expires_at is null or expires_at > now())
           group by pepper_id order by pepper_id"#,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.pepper_id, row.count)).collect())
}
