//! Checks that the database responds and is in the state that the migrations create.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::settings::DoctorSettings;
use super::{Check, definitions, sealing};
use crate::app::OTHER_CONNECTIONS;
use crate::clock::{Clock, SystemClock};
use crate::commands::Failure;
use crate::commands::connect::{
    self, ConnectionSecurity, DatabaseConnection, MIN_SERVER_VERSION, Pooler,
};
use crate::commands::setup::{PreparedDatabase, start_cluster};
use crate::error::{Error, Result};
use crate::model::ids::OrganizationId;
use crate::repo::{
    catalog, connection_settings, jobs, keys, migrations, rls, tenant_access, unfulfilled_checkouts,
};

/// Checks the database, if there is one. A failure of the database is a check, not an error.
pub(super) fn checks(settings: &DoctorSettings, runtime: &Runtime) -> Result<Vec<Check>, Failure> {
    if settings.is_unusable("DATABASE_URL") {
        return Ok(Vec::new());
    }
    if settings.uses_private_postgres && !settings.has_data {
        let dir = std::path::absolute(&settings.config.database.data_dir)?;
        let text = format!(
            "none yet: the first start creates a private Postgres and secrets in {}; set \
             DATABASE_URL to use another Postgres",
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
    let mut connection = match connect::connect(options, Duration::ZERO).await {
        Ok(connection) => connection,
        Err(failure) => return vec![Check::problem("database", failure.to_string())],
    };
    let mut checks =
        vec![or_problem("encryption", check_encryption(&mut connection, options).await)];
    if let Some(pooler) = &connection.pooler {
        checks.push(check_pool_mode(pooler));
        if pooler.shares_sessions {
            return checks;
        }
    }
    let db = &mut connection.db;
    if let Err(error) = connection_settings::configure(db, connection_settings::READ_ONLY).await {
        return vec![Check::problem("database", error.to_string())];
    }
    checks.insert(0, or_problem("database", check_server(db, started).await));
    checks.push(or_problem("postgres", check_server_settings(settings, db).await));
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
        if !settings.is_unusable("KEY_PEPPERS") {
            checks.push(or_problem("keys", check_peppers(settings, db).await));
        }
        checks.push(or_problem("outbox", check_dead_jobs(db).await));
        // Before its migration, the table does not exist.
        if progress.pending.is_empty() {
            checks.push(or_problem("checkouts", check_unfulfilled_checkouts(db).await));
            checks.extend(
                sealing::check(settings, db)
                    .await
                    .transpose()
                    .map(|checked| or_problem(sealing::SUBJECT, checked)),
            );
        }
    }
    let _ = connection.db.close().await;
    checks
}

async fn check_encryption(
    connection: &mut DatabaseConnection,
    options: &PgConnectOptions,
) -> Result<Check> {
    let security = connect::connection_security(connection, options).await?;
    let text = format!("the connection: {security}");
    Ok(match security {
        ConnectionSecurity::Unencrypted => Check::warning(
            "encryption",
            format!(
                "{text}, so key digests and e-mail addresses can be intercepted: set \
                 sslmode=verify-full in DATABASE_URL"
            ),
        ),
        ConnectionSecurity::Encrypted { is_verified: false, .. } => Check::warning(
            "encryption",
            format!(
                "{text}, so another server could impersonate the database: set sslmode=verify-full \
                 in DATABASE_URL"
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

async fn check_server_settings(settings: &DoctorSettings, db: &mut PgConnection) -> Result<Check> {
    let problems = connect::find_problems(db).await?;
    if !problems.is_empty() {
        return Ok(Check::problem("postgres", problems.join("; ")));
    }
    let disabled = catalog::disabled_durability_settings(db).await?;
    if !disabled.is_empty() {
        let text = format!(
            "{} off: a crash can lose changes that were confirmed to callers; turn it on",
            disabled.join(" and ")
        );
        return Ok(Check::warning("postgres", text));
    }
    let needed = settings.config.database.max_connections + OTHER_CONNECTIONS;
    let allowed = catalog::max_connections(db).await?;
    if i64::from(allowed) < i64::from(needed) {
        let text = format!(
            "Postgres allows {allowed} connections, and each server opens up to {needed}: raise \
             max_connections of Postgres, or lower DATABASE_MAX_CONNECTIONS"
        );
        return Ok(Check::warning("postgres", text));
    }
    Ok(Check::ok("postgres", "encoding, collation, schema and durability are suitable"))
}

/// Turns a check that failed to run into a problem.
fn or_problem(subject: &'static str, checked: Result<Check>) -> Check {
    checked.unwrap_or_else(|error: Error| {
        Check::problem(subject, format!("cannot be checked: {}", error.cause()))
    })
}

async fn check_server(db: &mut PgConnection, started: Instant) -> Result<Check> {
    let server = catalog::server_info(db).await?;
    let elapsed = started.elapsed().as_millis();
    let version = server.version;
    if server.version_number < MIN_SERVER_VERSION {
        let text = format!("Postgres {version} is too old: use version 14 or newer");
        return Ok(Check::problem("database", text));
    }
    if server.is_standby {
        let text = "is a standby, which is read-only: set DATABASE_URL to the primary";
        return Ok(Check::problem("database", text));
    }
    let text = format!("Postgres {version} responded to {} in {elapsed} ms", server.role);
    Ok(Check::ok("database", text))
}

async fn check_clock(db: &mut PgConnection) -> Result<Check> {
    let before = SystemClock.now();
    let database_time = catalog::current_time(db).await?;
    Ok(check_clock_difference(before, database_time, SystemClock.now()))
}

/// Compares the clocks. The database read its clock between `before` and `after` on this machine's
/// clock; only a difference that this interval cannot explain counts.
fn check_clock_difference(
    before: DateTime<Utc>,
    database_time: DateTime<Utc>,
    after: DateTime<Utc>,
) -> Check {
    let difference = (before - database_time).max(database_time - after).max(TimeDelta::zero());
    let text = format!(
        "this machine's clock differs by {:.1} s from the database's",
        difference.as_seconds_f64()
    );
    let advice = "keys expire by the database's clock, and tokens and links use this \
                  machine's, so synchronize both with NTP";
    match difference.num_milliseconds() {
        ..=1000 => Check::ok("clock", text),
        1001..=30_000 => Check::warning("clock", format!("{text}: {advice}")),
        _ => Check::problem("clock", format!("{text}: {advice}")),
    }
}

fn check_migrations(progress: &migrations::MigrationProgress, allow_newer: bool) -> Check {
    let migrations::MigrationProgress { known, pending, unknown, changed } = progress;
    let problem = |text: String| Check::problem("migrations", text);
    if *unknown > 0 && allow_newer && pending.is_empty() && changed.is_empty() {
        return Check::warning(
            "migrations",
            format!(
                "all {known} are applied, and {unknown} from a newer version of Tenantry: return \
                 to that version"
            ),
        );
    }
    if *unknown > 0 {
        return problem(format!(
            "{unknown} are from a newer version of Tenantry: run that version"
        ));
    }
    if !changed.is_empty() {
        let names = changed.join(", ");
        return problem(format!(
            "differ from the applied ones: {names}; run the version of Tenantry that applied them"
        ));
    }
    match pending.len() {
        0 => Check::ok("migrations", format!("all {known} are applied")),
        all if all == *known => Check::warning(
            "migrations",
            "none is applied, because the database is empty: tenantry migrate, or the first start, \
             applies all",
        ),
        _ => {
            let names = pending.join(", ");
            problem(format!("pending: {names}; run tenantry migrate, or start the new version"))
        }
    }
}

/// Switches to the restricted role, which proves that this is permitted, and checks what it sees.
async fn check_role(db: &mut PgConnection) -> Result<Check> {
    let problem = |text: String| Ok(Check::problem("role", text));
    match catalog::tenant_role_bypasses_rls(db).await? {
        None => {
            return problem(
                "tenantry_tenant does not exist: have an administrator run create role \
                 tenantry_tenant nologin"
                    .to_owned(),
            );
        }
        Some(true) => {
            return problem(
                "tenantry_tenant bypasses row-level security, so tenants are not isolated by it: \
                 have an administrator run alter role tenantry_tenant nosuperuser nobypassrls"
                    .to_owned(),
            );
        }
        Some(false) => {}
    }
    let role = catalog::server_info(db).await?.role;
    let mut tx = db.begin().await?;
    let unknown_organization = OrganizationId(Uuid::max());
    if let Err(error) = rls::set_tenant(&mut tx, unknown_organization).await {
        let cause = error.cause();
        return problem(format!(
            "{role} cannot set role tenantry_tenant ({cause}): have an administrator run grant \
             tenantry_tenant to \"{role}\""
        ));
    }
    if catalog::can_see_organizations(&mut tx).await? {
        return problem(
            "tenantry_tenant sees rows of other organizations: have an administrator revoke its \
             memberships in other roles"
                .to_owned(),
        );
    }
    tx.rollback().await?;
    let text = format!("{role} can set role tenantry_tenant, which sees only its own organization");
    Ok(Check::ok("role", text))
}

async fn check_privileges(db: &mut PgConnection) -> Result<Check> {
    let missing = tenant_access::list_missing(db).await?;
    let grants = missing.into_iter().filter(|it| it.starts_with("grant ") && it.contains(" on "));
    let grants: Vec<_> = grants.collect();
    if grants.is_empty() {
        return Ok(Check::ok("privileges", "tenantry_tenant has all required privileges"));
    }
    let text = format!("missing: {}; run tenantry migrate", grants.join("; "));
    Ok(Check::problem("privileges", text))
}

async fn check_owner(db: &mut PgConnection) -> Result<Check> {
    let role = catalog::server_info(db).await?.role;
    let tables = catalog::list_tables_of_other_owners(db).await?;
    if tables.is_empty() {
        return Ok(Check::ok("owner", format!("{role} owns the tables")));
    }
    let text = format!(
        "{role} does not own {}: set DATABASE_URL to the role that applied the migrations, or have \
         an administrator run alter table … owner to \"{role}\"",
        tables.join(", ")
    );
    Ok(Check::problem("owner", text))
}

async fn check_peppers(settings: &DoctorSettings, db: &mut PgConnection) -> Result<Check> {
    let peppers = &settings.config.keys.peppers;
    let counts = keys::count_per_pepper(db).await?;
    let is_known = |id: &str| peppers.iter().any(|pepper| pepper.id == id);
    let affected = counts.iter().filter(|(id, _)| !is_known(id));
    let affected: Vec<_> = affected.map(|(id, count)| format!("{count} under {id}")).collect();
    if affected.is_empty() {
        let count: i64 = counts.iter().map(|(_, count)| count).sum();
        return Ok(Check::ok("keys", format!("all {count} live keys can be verified")));
    }
    let text = format!(
        "some cannot be verified, because KEY_PEPPERS lacks their pepper ({}): add it again",
        affected.join(", ")
    );
    Ok(Check::problem("keys", text))
}

async fn check_dead_jobs(db: &mut PgConnection) -> Result<Check> {
    let dead = jobs::count_dead(db).await?;
    if dead == 0 {
        return Ok(Check::ok("outbox", "no mail and no report of a leaked key was given up"));
    }
    let text = format!(
        "{dead} mails or reports of leaked keys were given up: see select address, kind, \
         last_failure from outbox where dead_at is not null, then run tenantry mail retry"
    );
    Ok(Check::warning("outbox", text))
}

async fn check_unfulfilled_checkouts(db: &mut PgConnection) -> Result<Check> {
    let Some((count, event, handle, reason)) = unfulfilled_checkouts::find_newest(db).await? else {
        return Ok(Check::ok("checkouts", "every paid checkout is fulfilled"));
    };
    let text = format!(
        "{count} paid checkouts cannot be fulfilled, the newest {event} for the organization \
         {handle:?} ({reason}): refund the buyer, or let them check out again, with \
         metadata.mode=existing if the organization is theirs"
    );
    Ok(Check::warning("checkouts", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_difference_that_the_response_time_cannot_explain_is_reported() {
        let at = |millis: i64| DateTime::from_timestamp_millis(millis).unwrap();
        let check_text = |before, database_time, after| {
            check_clock_difference(at(before), at(database_time), at(after)).to_string()
        };
        assert!(check_text(0, 5000, 5000).starts_with("ok"), "the response took 5 s");
        assert!(check_text(0, 6001, 5000).starts_with("warning"));
        assert!(check_text(6001, 5000, 7000).starts_with("warning"));
        assert!(check_text(0, 31_000, 0).starts_with("problem"));
        assert!(check_text(0, -31_000, 0).contains("31.0 s"));
    }
}
