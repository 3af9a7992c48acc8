//! Whether the database answers, and is as the migrations leave it.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use uuid::Uuid;

use super::Check;
use super::settings::Settings;
use crate::clock::{Clock, SystemClock};
use crate::commands::migrate::{Prepared, start_cluster};
use crate::commands::{Failure, database_words};
use crate::error::{Error, Result};
use crate::model::ids::OrganizationId;
use crate::repo::{catalog, keys, migrations, outbox, tenant_walls, unfulfilled_checkouts};

/// How long the database may take to say its first word.
const CONNECT: Duration = Duration::from_secs(10);
/// What each connection of ours is held to: we change nothing, and are not waited for.
const SETTINGS: [(&str, &str); 2] =
    [("default_transaction_read_only", "on"), ("statement_timeout", "10s")];
/// The oldest version that has all that the migrations use.
const OLDEST: i32 = 140_000;

/// Checks the database, if there is one.
///
/// # Errors
/// What has nothing to do with it.
pub(super) fn checks(settings: &Settings, runtime: &Runtime) -> Result<Vec<Check>, Failure> {
    if settings.is_broken("DATABASE_URL") {
        return Ok(Vec::new());
    }
    if settings.is_private && !settings.has_data {
        let dir = std::path::absolute(&settings.config.database.data_dir)?;
        let text = format!(
            "none yet: the first start makes a private Postgres and secrets in {}; set \
             DATABASE_URL to use another one",
            dir.display()
        );
        return Ok(vec![Check::ok("database", text)]);
    }
    let prepared = match &settings.config.database.url {
        Some(url) => Prepared { options: url.clone(), cluster: None },
        None => match start_cluster(&settings.config.database) {
            Ok(prepared) => prepared,
            Err(failure) => return Ok(vec![Check::problem("database", failure.to_string())]),
        },
    };
    Ok(runtime.block_on(look(settings, &prepared.options)))
}

async fn look(settings: &Settings, options: &PgConnectOptions) -> Vec<Check> {
    let started = Instant::now();
    let connecting = timeout(CONNECT, options.clone().options(SETTINGS).connect()).await;
    let mut db = match connecting {
        Ok(Ok(db)) => db,
        Ok(Err(error)) => return vec![unreachable(&database_words(&error))],
        Err(_) => return vec![unreachable("it says nothing")],
    };
    let mut checks = vec![told("database", server(&mut db, started).await)];
    checks.push(told("clock", clock(&mut db).await));
    let progress = match migrations::progress(&mut db).await {
        Ok(progress) => progress,
        Err(error) => {
            checks.push(told("migrations", Err(error)));
            return checks;
        }
    };
    let is_empty = progress.pending.len() == progress.known;
    checks.push(schema(&progress));
    if !is_empty {
        checks.push(told("role", role(&mut db).await));
        checks.push(told("walls", walls(&mut db).await));
        checks.push(told("owner", owner(&mut db).await));
        checks.push(told("trail", trail(&mut db).await));
        if !settings.is_broken("KEY_PEPPERS") {
            checks.push(told("keys", digests(settings, &mut db).await));
        }
        checks.push(told("outbox", given_up(&mut db).await));
        // Before its migration there is no table to ask.
        if progress.pending.is_empty() {
            checks.push(told("checkouts", unfulfilled(&mut db).await));
        }
    }
    let _ = db.close().await;
    checks
}

fn unreachable(why: &str) -> Check {
    let text = format!("{why}: check DATABASE_URL, and that the server runs and lets us in");
    Check::problem("database", text)
}

/// A check that could not be made is a problem, too.
fn told(subject: &'static str, checked: Result<Check>) -> Check {
    checked.unwrap_or_else(|error: Error| {
        Check::problem(subject, format!("can not be checked: {}", error.cause()))
    })
}

async fn server(db: &mut PgConnection, started: Instant) -> Result<Check> {
    let server = catalog::server(db).await?;
    let took = started.elapsed().as_millis();
    let version = server.version;
    if server.version_number < OLDEST {
        let text =
            format!("is Postgres {version}, which is too old: 14 is the oldest that will do");
        return Ok(Check::problem("database", text));
    }
    if server.is_standby {
        let text = "only follows another one, and takes no changes: set DATABASE_URL to that";
        return Ok(Check::problem("database", text));
    }
    let text = format!("Postgres {version} answered {} in {took} ms", server.role);
    Ok(Check::ok("database", text))
}

async fn clock(db: &mut PgConnection) -> Result<Check> {
    let before = SystemClock.now();
    let there = catalog::time(db).await?;
    Ok(difference(before, there, SystemClock.now()))
}

/// The database looked at its clock between `before` and `after`, or the clocks differ.
fn difference(before: DateTime<Utc>, there: DateTime<Utc>, after: DateTime<Utc>) -> Check {
    let off = (before - there).max(there - after).max(TimeDelta::zero());
    let text = format!("{:.1} s from the database's", off.as_seconds_f64());
    let advice = "keys expire by that one, tokens and links are dated by ours: let both follow NTP";
    match off.num_milliseconds() {
        ..=1000 => Check::ok("clock", text),
        1001..=30_000 => Check::warning("clock", format!("{text}: {advice}")),
        _ => Check::problem("clock", format!("{text}: {advice}")),
    }
}

fn schema(progress: &migrations::Progress) -> Check {
    let migrations::Progress { known, pending, unknown, changed } = progress;
    let problem = |text: String| Check::problem("migrations", text);
    if *unknown > 0 {
        return problem(format!(
            "{unknown} are of a newer Tenantry, whose database this is: run that one"
        ));
    }
    if !changed.is_empty() {
        let names = changed.join(", ");
        return problem(format!(
            "ran in another wording: {names}; run the Tenantry that made them"
        ));
    }
    match pending.len() {
        0 => Check::ok("migrations", format!("all {known} have run")),
        all if all == *known => Check::warning(
            "migrations",
            "none has run, the database is empty: tenantry migrate, or the first start, makes all",
        ),
        _ => {
            let names = pending.join(", ");
            problem(format!("to come: {names}; run tenantry migrate, or start the new version"))
        }
    }
}

/// Becomes the lesser role, which is the only proof that we may, and looks around.
async fn role(db: &mut PgConnection) -> Result<Check> {
    let problem = |text: String| Ok(Check::problem("role", text));
    match catalog::tenant_role_is_mighty(db).await? {
        None => {
            return problem(
                "tenantry_tenant is missing: have an administrator run create role tenantry_tenant \
                 nologin"
                    .to_owned(),
            );
        }
        Some(true) => {
            return problem(
                "tenantry_tenant passes row-level security, so it keeps nobody apart: have an \
                 administrator run alter role tenantry_tenant nosuperuser nobypassrls"
                    .to_owned(),
            );
        }
        Some(false) => {}
    }
    let own = catalog::server(db).await?.role;
    let mut tx = db.begin().await?;
    let nobody = OrganizationId(Uuid::max());
    if let Err(error) = tenant_walls::raise(&mut tx, nobody).await {
        let cause = error.cause();
        return problem(format!(
            "we may not become tenantry_tenant ({cause}): have an administrator run grant \
             tenantry_tenant to \"{own}\""
        ));
    }
    if catalog::sees_organizations(&mut tx).await? {
        return problem(
            "tenantry_tenant sees organizations that are not its own: have an administrator take \
             its memberships in other roles away"
                .to_owned(),
        );
    }
    tx.rollback().await?;
    Ok(Check::ok("role", "we may become tenantry_tenant, which sees its own organization alone"))
}

async fn walls(db: &mut PgConnection) -> Result<Check> {
    let tables = catalog::walls(db).await?;
    let open: Vec<_> = tables.iter().filter(|(_, has_walls)| !has_walls).collect();
    if open.is_empty() {
        let text = format!("row-level security is forced on {} tables", tables.len());
        return Ok(Check::ok("walls", text));
    }
    let open = open.iter().map(|(table, _)| table.as_str()).collect::<Vec<_>>().join(", ");
    let text = format!(
        "row-level security is not forced, or lacks its policy, on {open}: alter table … enable \
         row level security, force row level security; the policies are in the migrations"
    );
    Ok(Check::problem("walls", text))
}

async fn owner(db: &mut PgConnection) -> Result<Check> {
    let own = catalog::server(db).await?.role;
    let foreign = catalog::tables_of_others(db).await?;
    if foreign.is_empty() {
        return Ok(Check::ok("owner", format!("{own} owns the tables")));
    }
    let text = format!(
        "{own} does not own {}: use the role in DATABASE_URL that ran the migrations, or have an \
         administrator run alter table … owner to \"{own}\"",
        foreign.join(", ")
    );
    Ok(Check::problem("owner", text))
}

async fn trail(db: &mut PgConnection) -> Result<Check> {
    let triggers = catalog::trail_triggers(db).await?;
    let off = triggers.iter().filter(|(_, is_on)| !is_on);
    let off = off.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    if off.is_empty() {
        return Ok(Check::ok("trail", "the triggers that seal it are on"));
    }
    let text = format!(
        "somebody turned off what seals it ({off}): alter table … enable trigger …, then look what \
         was done with tenantry audit verify"
    );
    Ok(Check::problem("trail", text))
}

async fn digests(settings: &Settings, db: &mut PgConnection) -> Result<Check> {
    let peppers = &settings.config.keys.peppers;
    let counts = keys::count_per_pepper(db).await?;
    let is_known = |id: &str| peppers.iter().any(|pepper| pepper.id == id);
    let lost = counts.iter().filter(|(id, _)| !is_known(id));
    let lost: Vec<_> = lost.map(|(id, count)| format!("{count} under {id}")).collect();
    if lost.is_empty() {
        let count: i64 = counts.iter().map(|(_, count)| count).sum();
        return Ok(Check::ok("keys", format!("all {count} live ones can be checked")));
    }
    let text = format!(
        "some can not be checked, since KEY_PEPPERS lacks their pepper ({}): put it back",
        lost.join(", ")
    );
    Ok(Check::problem("keys", text))
}

async fn given_up(db: &mut PgConnection) -> Result<Check> {
    let dead = outbox::count_dead(db).await?;
    if dead == 0 {
        return Ok(Check::ok("outbox", "no mail was given up"));
    }
    let text = format!(
        "{dead} mails were given up: select address, kind, last_failure from outbox where dead_at \
         is not null; tenantry mail retry has them tried again"
    );
    Ok(Check::warning("outbox", text))
}

async fn unfulfilled(db: &mut PgConnection) -> Result<Check> {
    let Some((count, event, handle)) = unfulfilled_checkouts::newest(db).await? else {
        return Ok(Check::ok("checkouts", "every paid one was fulfilled"));
    };
    let text = format!(
        "{count} paid checkouts can not be fulfilled, the newest {event} for the organization \
         {handle}: refund the buyer or have them order another id, or, where the organization is \
         theirs, have them check out again with metadata.mode=existing"
    );
    Ok(Check::warning("checkouts", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_differ_by_no_less_than_the_answer_can_explain() {
        let at = |millis: i64| DateTime::from_timestamp_millis(millis).unwrap();
        let told = |before, there, after| difference(at(before), at(there), at(after)).to_string();
        assert!(told(0, 5000, 5000).starts_with("ok"), "the answer took 5 s");
        assert!(told(0, 6001, 5000).starts_with("warning"));
        assert!(told(6001, 5000, 7000).starts_with("warning"));
        assert!(told(0, 31_000, 0).starts_with("problem"));
        assert!(told(0, -31_000, 0).contains("31.0 s"));
    }
}
