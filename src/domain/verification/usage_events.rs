//! Usage that an operator's service reports after the fact, beside what checks count.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use crate::app::App;
use crate::error::Result;
use crate::model::attribution::{AttributedUsage, UsageEvent, UsageOwner};
use crate::model::ids::{KeyId, OrganizationId};
use crate::model::usage::{UsageTally, UsedCredential, hour_of};
use crate::repo::{usage, usage_events, usage_hourly};

/// The age of the oldest event that is counted.
const MAX_AGE: TimeDelta = TimeDelta::hours(24);
/// How far a service's clock may be ahead.
const MAX_AHEAD: TimeDelta = TimeDelta::minutes(5);

/// What became of reported events.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UsageReport {
    /// How many were counted.
    pub accepted: usize,
    /// How many had been counted before.
    pub duplicates: usize,
    /// The positions of those that cannot be counted, and why.
    pub rejected: Vec<(usize, &'static str)>,
}

/// Counts events in the usage of their organizations and keys, each once in 32 days.
pub async fn record(app: &App, events: &[UsageEvent], now: DateTime<Utc>) -> Result<UsageReport> {
    let recording = app.db.transaction(async |tx| record_in(tx, events, now).await);
    let (report, organizations) = recording.await?;
    app.meter.refresh(&organizations, now).await;
    Ok(report)
}

async fn record_in(
    tx: &mut PgConnection,
    events: &[UsageEvent],
    now: DateTime<Utc>,
) -> Result<(UsageReport, Vec<OrganizationId>)> {
    let owners = Owners::find(tx, events).await?;
    let mut report = UsageReport::default();
    let mut uses = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let owner = check_time(event, now).and_then(|()| owners.of(&event.owner));
        match owner {
            Ok(owner) => uses.push((event, owner)),
            Err(code) => report.rejected.push((index, code)),
        }
    }
    let known: Vec<_> = uses
        .iter()
        .map(|(event, (organization, _))| (&*event.source, &*event.id, *organization))
        .collect();
    let mut new = usage_events::insert(tx, &known, now).await?;
    let found = uses.len();
    // An event that is in the report twice is counted once.
    uses.retain(|(event, _)| new.remove(&(event.source.clone(), event.id.clone())));
    report.accepted = uses.len();
    report.duplicates = found - uses.len();
    usage::add(tx, &daily(&uses, now)).await?;
    usage_hourly::add(tx, &hourly(&uses)).await?;
    let mut organizations: Vec<_> =
        uses.iter().map(|(_, (organization, _))| *organization).collect();
    organizations.sort_unstable();
    organizations.dedup();
    Ok((report, organizations))
}

fn check_time(event: &UsageEvent, now: DateTime<Utc>) -> Result<(), &'static str> {
    match event.time {
        time if time < now - MAX_AGE => Err("time_too_old"),
        time if time > now + MAX_AHEAD => Err("time_in_future"),
        _ => Ok(()),
    }
}

/// An organization, and its key if the usage is a key's.
type Owner = (OrganizationId, Option<KeyId>);

/// The owners that events name.
struct Owners {
    keys: HashMap<KeyId, OrganizationId>,
    organizations: HashMap<String, OrganizationId>,
}

impl Owners {
    async fn find(tx: &mut PgConnection, events: &[UsageEvent]) -> Result<Self> {
        let (mut keys, mut handles) = (Vec::new(), Vec::new());
        for event in events {
            match &event.owner {
                UsageOwner::Key(id) => keys.extend(KeyId::parse(id)),
                UsageOwner::Organization(handle) => handles.push(handle.clone()),
                UsageOwner::Both | UsageOwner::Neither => {}
            }
        }
        Ok(Self {
            keys: usage_events::find_organizations_of_keys(tx, &keys).await?,
            organizations: usage_events::find_organizations(tx, &handles).await?,
        })
    }

    fn of(&self, owner: &UsageOwner) -> Result<Owner, &'static str> {
        match owner {
            UsageOwner::Key(id) => {
                let found =
                    KeyId::parse(id).and_then(|key| Some((*self.keys.get(&key)?, Some(key))));
                found.ok_or("key_unknown")
            }
            UsageOwner::Organization(handle) => {
                let found = self.organizations.get(&handle.to_ascii_lowercase());
                found.map(|organization| (*organization, None)).ok_or("organization_unknown")
            }
            UsageOwner::Both => Err("both_ids"),
            UsageOwner::Neither => Err("id_missing"),
        }
    }
}

/// Returns the events as daily sums.
fn daily(uses: &[(&UsageEvent, Owner)], now: DateTime<Utc>) -> Vec<UsageTally> {
    let mut tallies = HashMap::new();
    for (event, (organization, key)) in uses {
        let key = key.unwrap_or(KeyId::from_uuid(uuid::Uuid::nil()));
        let day = event.time.date_naive();
        let tally = tallies.entry((*organization, key, day)).or_insert_with(|| UsageTally {
            organization: Some(*organization),
            key,
            credential: UsedCredential::Key,
            day,
            requests: 0,
            rejected: 0,
            last_used_at: event.time.min(now),
        });
        tally.requests += event.units;
        tally.last_used_at = tally.last_used_at.max(event.time.min(now));
    }
    tallies.into_values().collect()
}

/// Returns the events as hourly usage.
fn hourly(uses: &[(&UsageEvent, Owner)]) -> Vec<AttributedUsage> {
    let usage = |(event, (organization, key)): &(&UsageEvent, Owner)| AttributedUsage {
        organization: *organization,
        hour: hour_of(event.time),
        key: *key,
        attribution: event.attribution.clone(),
        units: event.units,
    };
    uses.iter().map(usage).collect()
}
