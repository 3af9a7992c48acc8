//! Removes the data of deleted organizations, one batch at a time. The organization's row stays, so
//! that its id is never reused. Its audit log and its payments stay, too: they have retention
//! periods of their own.

use sqlx::PgConnection;

use crate::error::Result;
use crate::model::ids::OrganizationId;

/// Returns at most 1,000 deleted organizations with data that is not removed yet, in the order of
/// their deletion, and whether each was deleted more than this many days ago.
pub async fn list(db: &mut PgConnection, days: i32) -> Result<Vec<(OrganizationId, bool)>> {
    let rows = sqlx::query!(
        r#"select id, deleted_at < now() - make_interval(days => $1) as "is_due!"
           from organizations where deleted_at is not null and purged_at is null
           order by deleted_at limit 1000"#,
        days,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (OrganizationId(row.id), row.is_due)).collect())
}

/// Runs statements that each delete or update a batch of rows, one after the other, until one
/// affects rows. Returns the number of rows.
macro_rules! first_that_affects_rows {
    ($db:ident, $organization:ident: $($sql:literal),* $(,)?) => {{
        $(
            let result = sqlx::query!($sql, $organization.0).execute(&mut *$db).await?;
            if result.rows_affected() > 0 {
                return Ok(result.rows_affected());
            }
        )*
        Ok(0)
    }};
}

/// Removes a batch of e-mail addresses of people who are not members: invitations, claims of
/// a first key, and their mails. Returns the number of rows, 0 if none are left.
pub async fn remove_addresses(db: &mut PgConnection, organization: OrganizationId) -> Result<u64> {
    first_that_affects_rows!(db, organization:
        "delete from outbox where ctid = any(array(
             select m.ctid from outbox m join invites i on i.id = m.invite_id
             where i.organization_id = $1 limit 1000 for update of m skip locked))",
        "delete from outbox where ctid = any(array(
             select ctid from outbox where claim_of = $1 limit 1000 for update skip locked))",
        "delete from invites i where ctid = any(array(
             select ctid from invites where organization_id = $1 limit 1000
             for update skip locked))
           and not exists (select from outbox m where m.invite_id = i.id)",
        "delete from key_claims c where organization_id = $1
           and not exists (select from outbox m where m.claim_of = c.organization_id)",
    )
}

/// Removes a batch of the other data. Returns the number of rows, 0 if none are left.
pub async fn remove_rows(db: &mut PgConnection, organization: OrganizationId) -> Result<u64> {
    first_that_affects_rows!(db, organization:
        "delete from refresh_tokens where ctid = any(array(
             select ctid from refresh_tokens where organization_id = $1 limit 1000
             for update skip locked))",
        "delete from key_sessions where ctid = any(array(
             select ctid from key_sessions where organization_id = $1 limit 1000
             for update skip locked))",
        "delete from projects where ctid = any(array(
             select ctid from projects where organization_id = $1 limit 1000
             for update skip locked))",
        "delete from usage_daily where ctid = any(array(
             select ctid from usage_daily where organization_id = $1 limit 1000
             for update skip locked))",
        "delete from usage_hourly where ctid = any(array(
             select ctid from usage_hourly where organization_id = $1 limit 1000
             for update skip locked))",
        "delete from usage_resources where ctid = any(array(
             select ctid from usage_resources where organization_id = $1 limit 1000
             for update skip locked))",
        "delete from usage_events where ctid = any(array(
             select ctid from usage_events where organization_id = $1 limit 1000
             for update skip locked))",
        "delete from denials where ctid = any(array(
             select ctid from denials where organization_id = $1 limit 1000
             for update skip locked))",
        "delete from idempotency_keys where ctid = any(array(
             select ctid from idempotency_keys where organization_id = $1 limit 1000
             for update skip locked))",
        "delete from credit_balances where ctid = any(array(
             select ctid from credit_balances where organization_id = $1 limit 1000
             for update skip locked))",
        "delete from billing_customers where organization_id = $1",
        "delete from ended_subscriptions where organization_id = $1",
        "delete from personal_tokens where ctid = any(array(
             select ctid from personal_tokens where pinned_to = $1 limit 1000
             for update skip locked))",
        "update accounts set default_key_id = null where id = any(array(
             select id from accounts
             where home_organization_id = $1 and default_key_id is not null limit 1000
             for no key update skip locked))",
        "update api_keys set rotated_from = null where id = any(array(
             select id from api_keys where organization_id = $1 and rotated_from is not null
             limit 1000 for no key update skip locked))",
        "delete from api_keys where ctid = any(array(
             select ctid from api_keys where organization_id = $1 limit 1000
             for update skip locked))",
        "delete from organization_app_rules where organization_id = $1",
        "delete from organization_app_policies where organization_id = $1",
        "delete from oauth_grants where ctid = any(array(
             select ctid from oauth_grants where organization_id = $1 limit 1000
             for update skip locked))",
        "delete from oauth_grants where ctid = any(array(
             select g.ctid from oauth_grants g join oauth_clients c on c.id = g.client_id
             where c.organization_id = $1 limit 1000 for update of g skip locked))",
        "delete from oauth_clients where ctid = any(array(
             select ctid from oauth_clients where organization_id = $1 limit 1000
             for update skip locked))",
        "delete from sso_domains where organization_id = $1",
        "delete from sso_connections where organization_id = $1",
        "delete from users where ctid = any(array(
             select ctid from users where organization_id = $1 limit 1000
             for update skip locked))",
    )
}

/// Clears the organization's name, allowed origins and settings, and records that all other data
/// is removed. Does nothing while memberships, keys, apps, credits, invitations or a claim remain,
/// since a batch skips locked rows.
pub async fn mark_purged(db: &mut PgConnection, organization: OrganizationId) -> Result<()> {
    sqlx::query!(
        "update organizations
         set name = '', allowed_origins = '{}', external_id = null, metadata = null, limits = null,
             purged_at = now()
         where id = $1 and deleted_at is not null
           and not exists (select from users where organization_id = $1)
           and not exists (select from api_keys where organization_id = $1)
           and not exists (select from oauth_clients where organization_id = $1)
           and not exists (select from credit_balances where organization_id = $1)
           and not exists (select from invites where organization_id = $1)
           and not exists (select from key_claims where organization_id = $1)",
        organization.0,
    )
    .execute(db)
    .await?;
    Ok(())
}
