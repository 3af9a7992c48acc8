//! What the operator sets for organizations.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::credits::Credits;
use crate::model::ids::OrganizationId;
use crate::model::metadata::Metadata;
use crate::model::named_limits::NamedLimits;
use crate::model::names::ExternalId;
use crate::model::organization::{FoundOrganization, OrganizationSettings};
use crate::model::organization_handle::OrganizationHandle;
use crate::model::plan::Plan;

struct Row {
    id: Uuid,
    handle: String,
    name: String,
    plan: String,
    is_suspended: bool,
    external_id: Option<String>,
    metadata: Option<serde_json::Value>,
    limits: Option<serde_json::Value>,
    credits: Option<i64>,
    refill_amount: Option<i64>,
    refill_interval: Option<String>,
    created_at: DateTime<Utc>,
}

impl Row {
    fn into_organization(self) -> Option<FoundOrganization> {
        let (amount, interval) = (self.refill_amount, self.refill_interval);
        let credits = |remaining| Credits::from_stored(remaining, amount, interval.as_deref());
        Some(FoundOrganization {
            id: OrganizationId(self.id),
            handle: self.handle,
            name: self.name,
            plan: Plan::parse(&self.plan)?,
            is_suspended: self.is_suspended,
            settings: OrganizationSettings {
                external_id: self.external_id,
                metadata: self.metadata.map(Metadata::from_stored).unwrap_or_default(),
                limits: NamedLimits::from_stored(self.limits),
                credits: self.credits.map(credits),
            },
            created_at: self.created_at,
        })
    }
}

/// Returns the organization with this handle, ignoring case; `None` if it does not exist or was
/// deleted.
pub async fn find(
    db: &mut PgConnection,
    handle: &OrganizationHandle,
) -> Result<Option<FoundOrganization>> {
    let row = sqlx::query_as!(
        Row,
        r#"select o.id, o.handle, o.name, o.plan, o.suspended_at is not null as "is_suspended!",
                  o.external_id, o.metadata, o.limits,
                  available_credits(b.remaining, b.refill_amount, b.refill_interval,
                                    b.refilled_at) as "credits?",
                  b.refill_amount as "refill_amount?", b.refill_interval as "refill_interval?",
                  o.created_at
           from organizations o
           left join credit_balances b on b.id = o.id
           where lower(o.handle collate "C") = lower($1 collate "C") and o.deleted_at is null"#,
        handle.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.and_then(Row::into_organization))
}

/// Returns at most `limit` organizations with this external id, the newest first.
pub async fn list_by_external_id(
    db: &mut PgConnection,
    external_id: &ExternalId,
    limit: i64,
) -> Result<Vec<FoundOrganization>> {
    let rows = sqlx::query_as!(
        Row,
        r#"select o.id, o.handle, o.name, o.plan, o.suspended_at is not null as "is_suspended!",
                  o.external_id, o.metadata, o.limits,
                  available_credits(b.remaining, b.refill_amount, b.refill_interval,
                                    b.refilled_at) as "credits?",
                  b.refill_amount as "refill_amount?", b.refill_interval as "refill_interval?",
                  o.created_at
           from organizations o
           left join credit_balances b on b.id = o.id
           where o.external_id = $1 and o.deleted_at is null
           order by o.id desc limit $2"#,
        external_id.as_str(),
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().filter_map(Row::into_organization).collect())
}

/// Stores an organization's external id and metadata, and its limits if they change.
pub async fn update(
    db: &mut PgConnection,
    organization: OrganizationId,
    (settings, with_limits): (&OrganizationSettings, bool),
    at: DateTime<Utc>,
) -> Result<()> {
    sqlx::query!(
        "update organizations
         set external_id = $2, metadata = nullif($3::jsonb, '{}'),
             limits = case when $6 then $4 else limits end, updated_at = $5
         where id = $1 and deleted_at is null",
        organization.0,
        settings.external_id,
        settings.metadata.to_stored(),
        settings.limits.to_stored(),
        at,
        with_limits,
    )
    .execute(db)
    .await?;
    Ok(())
}
