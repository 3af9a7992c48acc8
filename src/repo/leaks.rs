//! Leaked keys: the queued reports, and the leak of each key, which is recorded once. The queue is
//! the table `outbox` (see [`super::jobs`]).

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::model::ids::{AccountId, KeyId, OrganizationId};
use crate::model::job::LEAK_REPORT;
use crate::model::leak::LeakPolicy;

/// Queues reports.
pub async fn insert_reports(
    db: &mut PgConnection,
    reports: &[(Uuid, Value)],
    at: DateTime<Utc>,
) -> Result<()> {
    let (ids, payloads): (Vec<Uuid>, Vec<Value>) = reports.iter().cloned().unzip();
    sqlx::query!(
        "insert into outbox (id, kind, address, created_at, due_at, payload)
         select id, $1, '', $2, now(), payload
         from unnest($3::uuid[], $4::jsonb[]) as report (id, payload)",
        LEAK_REPORT,
        at,
        &ids,
        &payloads,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the leak policy for an organization's keys; `None` if the organization was deleted. If
/// it has allowed origins, the policy is to notify, whatever is stored: its keys are public in web
/// pages, so any visitor could disable them with a report.
pub async fn find_policy(
    db: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Option<LeakPolicy>> {
    let policy = sqlx::query_scalar!(
        r#"select case when allowed_origins <> '{}' then 'notify' else leak_policy end as "policy!"
           from organizations where id = $1 and deleted_at is null"#,
        organization.0,
    )
    .fetch_optional(db)
    .await?;
    let unknown = || Error::internal("an unknown leak policy");
    policy.map(|policy| LeakPolicy::parse(&policy).ok_or_else(unknown)).transpose()
}

/// A key or token whose leak was recorded.
pub struct LeakedCredential {
    /// The prefix of its text.
    pub prefix: String,
    /// The first 8 characters after the prefix.
    pub display_id: String,
    /// Its name.
    pub name: Option<String>,
}

/// Records that a key of an organization leaked, and with `disables` disables it. Returns the key
/// and whether it was enabled; `None` if it ended, or its leak was recorded before. Of concurrent
/// calls, one returns the key.
pub async fn record_key(
    db: &mut PgConnection,
    organization: OrganizationId,
    key: KeyId,
    disables: bool,
    at: DateTime<Utc>,
) -> Result<Option<(LeakedCredential, bool)>> {
    let row = sqlx::query!(
        r#"with held as (
               select id, enabled from api_keys
               where id = $2 and (organization_id = $1) is true and leaked_at is null
                 and revoked_at is null and (expires_at is null or expires_at > now())
               for no key update
           )
           update api_keys k set leaked_at = $3, enabled = k.enabled and not $4
           from held where k.id = held.id
           returning k.prefix, k.display_id, k.name, held.enabled"#,
        organization.0,
        key.uuid(),
        at,
        disables,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| {
        let (prefix, display_id, name) = (row.prefix, row.display_id, row.name);
        (LeakedCredential { prefix, display_id, name }, row.enabled)
    }))
}

/// A personal access token whose leak was recorded.
pub struct LeakedToken {
    /// What identifies it.
    pub credential: LeakedCredential,
    /// The organization that it is pinned to.
    pub pinned_to: Option<OrganizationId>,
    /// Whether it was revoked.
    pub is_revoked: bool,
}

/// Records that a token of an account leaked, and revokes it unless every organization that it acts
/// in has the policy to notify. `None` if it ended, or its leak was recorded before. Of concurrent
/// calls, one returns the token.
pub async fn record_token(
    db: &mut PgConnection,
    account: AccountId,
    token: KeyId,
    at: DateTime<Utc>,
) -> Result<Option<LeakedToken>> {
    let row = sqlx::query!(
        r#"with policies as (
               select coalesce(bool_and(o.leak_policy = 'notify'), false) as only_notify
               from personal_tokens t
               join users u on u.account_id = t.account_id and u.removed_at is null
                           and (t.pinned_to is null or u.organization_id = t.pinned_to)
               join organizations o on o.id = u.organization_id and o.deleted_at is null
               where t.id = $2 and t.account_id = $1
           )
           update personal_tokens t
           set leaked_at = $3,
               revoked_at = case when p.only_notify then null else $3::timestamptz end
           from policies p
           where t.id = $2 and t.account_id = $1 and t.leaked_at is null
             and t.revoked_at is null and (t.expires_at is null or t.expires_at > now())
           returning t.prefix, t.display_id, t.name, t.pinned_to,
                     t.revoked_at is not null as "is_revoked!""#,
        account.uuid(),
        token.uuid(),
        at,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| LeakedToken {
        credential: LeakedCredential {
            prefix: row.prefix,
            display_id: row.display_id,
            name: Some(row.name),
        },
        pinned_to: row.pinned_to.map(OrganizationId),
        is_revoked: row.is_revoked,
    }))
}
