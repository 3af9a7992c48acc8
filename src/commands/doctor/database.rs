//! Whether the database answers, and is as the migrations leave it.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::settings::DoctorSettings;
use super::{Check, definitions};
use crate::app::LOOKUP_CONNECTIONS;
use crate::clock::{Clock, SystemClock};
use crate::commands::Failure;
use crate::commands::connect::{
    self, ConnectionSecurity, DatabaseConnection, MIN_SERVER_VERSION, Pooler,
};
use crate::commands::migrate::{PreparedDatabase, start_cluster};
use crate::error::{Error, Result};
use crate::model::ids::OrganizationId;
use crate::repo::{
    catalog, connection_settings, jobs, keys, migrations, rls, tenant_access, unfulfilled_checkouts,
};

/// Checks the database, if there is one.
///
/// # Errors
/// What has nothing to do with it.
pub(super) fn checks(settings: &DoctorSettings, runtime: &Runtime) -> Result<Vec<Check>, Failure> {
    if settings.is_broken("DATABASE_URL") {
        return Ok(Vec::new());
    }
    if settings.uses_private_postgres && !settings.has_data {
        let dir = std::path::absolute(&settings.config.database.data_dir)?;
        let text = format!(
            "none yet: the first start makes a private Postgres and secrets in {}; set \
             DATABASE_URL to use another one",
            dir.display()
        );
        return Ok(vec![Check::ok("database", text)]);
    }
    let prepared = match &settings.config.database.url {
        Some(url) => PreparedDatabase { options: url.clone(), cluster: None },
        None => match start_cluster(&settings.config.database) {
            Ok(prepared) => prepared,
            Err(failure) => return Ok(vec![Check::problem("database", failure.to_string())]),
        },
    };
    Ok(runtime.block_on(run_checks(settings, &prepared.options)))
}

async fn run_checks(settings: &DoctorSettings, options: &PgConnectOptions) -> Vec<Check> {
    let started = Instant::now();
    let mut connected = match connect::connect(options, Duration::ZERO).await {
        Ok(connected) => connected,
        Err(failure) => return vec![Check::problem("database", failure.to_string())],
    };
    let mut checks =
        vec![or_problem("encryption", check_encryption(&mut connected, options).await)];
    if let Some(pooler) = &connected.pooler {
        checks.push(check_pool_mode(pooler));
        if pooler.is_shared {
            return checks;
        }
    }
    let db = &mut connected.db;
    if let Err(error) = connection_settings::configure(db, connection_settings::READ_ONLY).await {
        return vec![Check::problem("database", error.to_string())];
    }
    checks.insert(0, or_problem("database", check_server(db, started).await));
    checks.push(or_problem("foundations", check_foundations(settings, db).await));
    checks.push(or_problem("clock", check_clock(db).await));
    let progress = match migrations::progress(db).await {
        Ok(progress) => progress,
        Err(error) => {
            checks.push(or_problem("migrations", Err(error)));
            return checks;
        }
    };
    let is_empty = progress.pending.len() == progress.known;
    let is_current = progress.is_current();
    checks.push(check_migrations(&progress, settings.config.database.allow_newer_schema));
    if !is_empty {
        checks.push(or_problem("role", check_role(db).await));
        checks.push(or_problem("privileges", check_privileges(db).await));
        checks.push(or_problem("owner", check_owner(db).await));
        checks.push(or_problem("schema", definitions::check_creators(db).await));
        if is_current {
            checks.push(or_problem("definitions", definitions::check_definitions(db).await));
        }
        if !settings.is_broken("KEY_PEPPERS") {
            checks.push(or_problem("keys", check_peppers(settings, db).await));
        }
        checks.push(or_problem("outbox", check_dead_mail(db).await));
        // Before the first migration the table does not exist.
        if progress.pending.is_empty() {
            checks.push(or_problem("checkouts", check_unfulfilled_checkouts(db).await));
        }
    }
    let _ = connected.db.close().await;
    checks
}

async fn check_encryption(
    connected: &mut DatabaseConnection,
    options: &PgConnectOptions,
) -> Result<Check> {
    let privacy = connect::connection_security(connected, options).await?;
    let text = format!("the connection: {privacy}");
    Ok(match privacy {
        ConnectionSecurity::Unencrypted => Check::warning(
            "encryption",
            format!(
                "{text}, so keys' digests and addresses can be read on their way: set \
                     sslmode=verify-full in DATABASE_URL"
            ),
        ),
        ConnectionSecurity::Encrypted { is_verified: false, .. } => Check::warning(
            "encryption",
            format!(
                "{text}, so another could pass for the database: set sslmode=verify-full in \
                     DATABASE_URL"
            ),
        ),
        _ => Check::ok("encryption", text),
    })
}

fn check_pool_mode(pooler: &Pooler) -> Check {
    match pooler.problem() {
        Some(problem) => Check::problem("pooler", problem),
        None => Check::ok("pooler", pooler.description()),
    }
}

async fn check_foundations(settings: &DoctorSettings, db: &mut PgConnection) -> Result<Check> {
    let problems = connect::find_problems(db).await?;
    if !problems.is_empty() {
        return Ok(Check::problem("foundations", problems.join("; ")));
    }
    let risky = catalog::disabled_durability_settings(db).await?;
    if !risky.is_empty() {
        let text =
            format!("{} off: a crash loses acknowledged changes; set it on", risky.join(" and "));
        return Ok(Check::warning("foundations", text));
    }
    let needed = settings.config.database.max_connections + LOOKUP_CONNECTIONS;
    let allowed = catalog::max_connections(db).await?;
    if i64::from(allowed) < i64::from(needed) {
        let text = format!(
            "the server takes {allowed} connections and each of ours asks for {needed}: raise its \
             max_connections, or lower DATABASE_MAX_CONNECTIONS"
        );
        return Ok(Check::warning("foundations", text));
    }
    Ok(Check::ok(
        "foundations",
        "encoding, collation, schema and durability are as they have to be",
    ))
}

/// A check that could not be made is a problem, too.
fn or_problem(subject: &'static str, checked: Result<Check>) -> Check {
    checked.unwrap_or_else(|error: Error| {
        Check::problem(subject, format!("can not be checked: {}", error.cause()))
    })
}

async fn check_server(db: &mut PgConnection, started: Instant) -> Result<Check> {
    let server = catalog::server_info(db).await?;
    let took = started.elapsed().as_millis();
    let version = server.version;
    if server.version_number < MIN_SERVER_VERSION {
        let text =
            format!("is Postgres {version}, which is too old: 14 is the oldest that will do");
        return Ok(Check::problem("database", text));
    }
    if server.is_standby {
        let text = "is a read-only standby: set DATABASE_URL to its primary";
        return Ok(Check::problem("database", text));
    }
    let text = format!("Postgres {version} answered {} in {took} ms", server.role);
    Ok(Check::ok("database", text))
}

async fn check_clock(db: &mut PgConnection) -> Result<Check> {
    let before = SystemClock.now();
    let database_time = catalog::current_time(db).await?;
    Ok(check_clock_difference(before, database_time, SystemClock.now()))
}

/// The database looked at its clock between `before` and `after`, or the clocks differ.
fn check_clock_difference(
    before: DateTime<Utc>,
    there: DateTime<Utc>,
    after: DateTime<Utc>,
) -> Check {
    let off = (before - there).max(there - after).max(TimeDelta::zero());
    let text = format!("{:.1} s from the database's", off.as_seconds_f64());
    let advice = "keys expire by the database's clock, tokens and links by this machine's: \
                  synchronize both with NTP";
    match off.num_milliseconds() {
        ..=1000 => Check::ok("clock", text),
        1001..=30_000 => Check::warning("clock", format!("{text}: {advice}")),
        _ => Check::problem("clock", format!("{text}: {advice}")),
    }
}

fn check_migrations(progress: &migrations::MigrationProgress, takes_newer: bool) -> Check {
    let migrations::MigrationProgress { known, pending, unknown, changed } = progress;
    let problem = |text: String| Check::problem("migrations", text);
    if *unknown > 0 && takes_newer && pending.is_empty() && changed.is_empty() {
        return Check::warning(
            "migrations",
            format!("all {known} have run, and {unknown} of a newer Tenantry: go back to that one"),
        );
    }
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
async fn check_role(db: &mut PgConnection) -> Result<Check> {
    let problem = |text: String| Ok(Check::problem("role", text));
    match catalog::tenant_role_bypasses_rls(db).await? {
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
    let own = catalog::server_info(db).await?.role;
    let mut tx = db.begin().await?;
    let unknown_organization = OrganizationId(Uuid::max());
    if let Err(error) = rls::set_tenant(&mut tx, unknown_organization).await {
        let cause = error.cause();
        return problem(format!(
            "we may not become tenantry_tenant ({cause}): have an administrator run grant \
             tenantry_tenant to \"{own}\""
        ));
    }
    if catalog::can_see_organizations(&mut tx).await? {
        return problem(
            "tenantry_tenant sees organizations that are not its own: have an administrator take \
             its memberships in other roles away"
                .to_owned(),
        );
    }
    tx.rollback().await?;
    Ok(Check::ok("role", "we may become tenantry_tenant, which sees its own organization alone"))
}

async fn check_privileges(db: &mut PgConnection) -> Result<Check> {
    let missing = tenant_access::list_missing(db).await?;
    let grants = missing.into_iter().filter(|it| it.starts_with("grant ") && it.contains(" on "));
    let grants: Vec<_> = grants.collect();
    if grants.is_empty() {
        return Ok(Check::ok("privileges", "tenantry_tenant has those that it needs"));
    }
    let text = format!("missing: {}; run tenantry migrate", grants.join("; "));
    Ok(Check::problem("privileges", text))
}

async fn check_owner(db: &mut PgConnection) -> Result<Check> {
    let own = catalog::server_info(db).await?.role;
    let foreign = catalog::list_tables_of_other_owners(db).await?;
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

async fn check_peppers(settings: &DoctorSettings, db: &mut PgConnection) -> Result<Check> {
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

async fn check_dead_mail(db: &mut PgConnection) -> Result<Check> {
    let dead = jobs::count_dead(db).await?;
    if dead == 0 {
        return Ok(Check::ok("outbox", "no mail was given up"));
    }
    let text = format!(
        "{dead} mails were given up: select address, kind, last_failure from outbox where dead_at \
         is not null; tenantry mail retry has them tried again"
    );
    Ok(Check::warning("outbox", text))
}

async fn check_unfulfilled_checkouts(db: &mut PgConnection) -> Result<Check> {
    let Some((count, event, handle, reason)) = unfulfilled_checkouts::find_newest(db).await? else {
        return Ok(Check::ok("checkouts", "every paid one was fulfilled"));
    };
    let text = format!(
        "{count} paid checkouts can not be fulfilled, the newest {event} for the organization \
         {handle:?} ({reason}): refund the buyer or have them check out again, with \
         metadata.mode=existing where the organization is theirs"
    );
    Ok(Check::warning("checkouts", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_differ_by_no_less_than_the_answer_can_explain() {
        let at = |millis: i64| DateTime::from_timestamp_millis(millis).unwrap();
        let check_text = |before, there, after| {
            check_clock_difference(at(before), at(there), at(after)).to_string()
        };
        assert!(check_text(0, 5000, 5000).starts_with("ok"), "the answer took 5 s");
        assert!(check_text(0, 6001, 5000).starts_with("warning"));
        assert!(check_text(6001, 5000, 7000).starts_with("warning"));
        assert!(check_text(0, 31_000, 0).starts_with("problem"));
        assert!(check_text(0, -31_000, 0).contains("31.0 s"));
    }
}
