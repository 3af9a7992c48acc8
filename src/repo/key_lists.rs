//! Lists of an organization's API keys.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::api_key::ApiKey;
use crate::model::ids::OrganizationId;
use crate::repo::keys::Row;

/// Returns at most `limit` of the organization's keys, newest first: those older than `after`, or
/// the newest. Returns revoked and expired keys only with `include_revoked`, and with
/// `external_id` only keys that have it.
pub async fn list(
    db: &mut PgConnection,
    organization: OrganizationId,
    (include_revoked, external_id): (bool, Option<&str>),
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ApiKey>> {
    let rows = sqlx::query_as!(
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
           where k.organization_id = $1
             and ($2 or (k.revoked_at is null
                         and (k.expires_at is null or k.expires_at > now())))
             and ($3::uuid is null or k.id < $3)
             and ($5::text is null or k.external_id = $5)
           order by k.id desc
           limit $4"#,
        organization.0,
        include_revoked,
        after,
        limit,
        external_id,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(ApiKey::from).collect())
}

/// Returns a page of the organization's keys whose names contain `search`, newest first, and their
/// total count. Returns revoked and expired keys only with `include_revoked`, and with
/// `external_id` only keys that have it.
pub async fn list_page(
    db: &mut PgConnection,
    organization: OrganizationId,
    (include_revoked, external_id): (bool, Option<&str>),
    search: Option<&str>,
    (offset, limit): (i64, i64),
) -> Result<(Vec<ApiKey>, i64)> {
    let rows = sqlx::query_as!(
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
           where k.organization_id = $1
             and ($2 or (k.revoked_at is null
                         and (k.expires_at is null or k.expires_at > now())))
             and ($3::text is null or strpos(lower(k.name), lower($3)) > 0)
             and ($6::text is null or k.external_id = $6)
           order by k.id desc offset $4 limit $5"#,
        organization.0,
        include_revoked,
        search,
        offset,
        limit,
        external_id,
    )
    .fetch_all(&mut *db)
    .await?;
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!" from api_keys
           where organization_id = $1
             and ($2 or (revoked_at is null and (expires_at is null or expires_at > now())))
             and ($3::text is null or strpos(lower(name), lower($3)) > 0)
             and ($4::text is null or external_id = $4)"#,
        organization.0,
        include_revoked,
        search,
        external_id,
    )
    .fetch_one(db)
    .await?;
    Ok((rows.into_iter().map(ApiKey::from).collect(), total))
}
