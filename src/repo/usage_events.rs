//! Reported usage: which events were counted, so that none is counted twice.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::model::ids::{KeyId, OrganizationId};

/// How many days an event is remembered.
const REMEMBERED_DAYS: i32 = 32;

/// Returns the organizations of keys, also of keys that have ended.
pub async fn find_organizations_of_keys(
    db: &mut PgConnection,
    keys: &[KeyId],
) -> Result<HashMap<KeyId, OrganizationId>> {
    let ids: Vec<Uuid> = keys.iter().map(|key| key.uuid()).collect();
    let rows = sqlx::query!(
        "select k.id, k.organization_id from api_keys k
         join organizations o on o.id = k.organization_id
         where k.id = any($1) and o.deleted_at is null",
        &ids,
    )
    .fetch_all(db)
    .await?;
    let organization = |id| OrganizationId(id);
    let pairs = rows.into_iter();
    Ok(pairs.map(|it| (KeyId::from_uuid(it.id), organization(it.organization_id))).collect())
}

/// Returns organizations by their public ids in lower case.
pub async fn find_organizations(
    db: &mut PgConnection,
    handles: &[String],
) -> Result<HashMap<String, OrganizationId>> {
    let handles: Vec<String> = handles.iter().map(|it| it.to_ascii_lowercase()).collect();
    let rows = sqlx::query!(
        r#"select o.id, lower(o.handle collate "C") as "handle!" from organizations o
           where lower(o.handle collate "C") = any($1) and o.deleted_at is null"#,
        &handles,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.handle, OrganizationId(row.id))).collect())
}

/// Remembers events by source and id, and returns those that were not known. Of two concurrent
/// reports of an event, one is new.
pub async fn insert(
    db: &mut PgConnection,
    events: &[(&str, &str, OrganizationId)],
    at: DateTime<Utc>,
) -> Result<HashSet<(String, String)>> {
    let sources: Vec<String> = events.iter().map(|(source, ..)| (*source).to_owned()).collect();
    let ids: Vec<String> = events.iter().map(|(_, id, _)| (*id).to_owned()).collect();
    let organizations: Vec<Uuid> = events.iter().map(|(.., organization)| organization.0).collect();
    let rows = sqlx::query!(
        "insert into usage_events (source, id, organization_id, received_at)
         select source, id, organization_id, $4
         from unnest($1::text[], $2::text[], $3::uuid[]) as t (source, id, organization_id)
         order by source, id
         on conflict on constraint usage_events_pkey do nothing
         returning source, id",
        &sources,
        &ids,
        &organizations,
        at,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.source, row.id)).collect())
}

/// Removes up to 1,000 events that were received more than 32 days ago; returns how many. Applies
/// to all organizations.
pub async fn sweep(db: &mut PgConnection) -> Result<u64> {
    let result = sqlx::query!(
        "delete from usage_events where ctid = any(array(
             select ctid from usage_events where received_at < now() - make_interval(days => $1)
             limit 1000 for update skip locked))",
        REMEMBERED_DAYS,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
