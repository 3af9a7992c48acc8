//! The background tasks of a server: they run queued jobs, write usage and rejections, publish the
//! heads of the audit log, delete data past its retention, check domains, keep connections to
//! identity providers current, watch the database and free memory.

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::app::database::Database;
use crate::domain::audit;
use crate::domain::retention;
use crate::domain::sso::{domain_checks, upkeep};
use crate::jobs;

/// How often rows past their retention are deleted, and connections are kept current.
const CLEANUP_INTERVAL: Duration = Duration::from_hours(1);
/// The time after its start within which a server first does that, because it may not run for a
/// whole interval.
const FIRST_SWEEP: Duration = Duration::from_mins(10);
/// How often pending rejections are written.
const REJECTION_FLUSH_INTERVAL: Duration = Duration::from_secs(10);
/// How often the heads of the audit log are published. If publishing fails or an upgrade is in
/// progress, `CLEANUP_INTERVAL` applies.
const HEAD_PUBLISH_INTERVAL: Duration = Duration::from_hours(24);
/// How often domains that are due for their daily check are looked for.
const DOMAIN_CHECK_INTERVAL: Duration = Duration::from_mins(10);
/// How often memory is freed and the database is watched.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts the background tasks. They end when `end` is cancelled, after pending usage and
/// rejections are written and unused credits are returned.
pub fn start(app: &App, metrics: PrometheusHandle, end: &CancellationToken) -> Vec<JoinHandle<()>> {
    let (meter_app, meter_end) = (app.clone(), end.clone());
    let (leases, leases_end) = (app.credit_leases.clone(), end.clone());
    let retention = end.clone().run_until_cancelled_owned(run_retention(app.clone()));
    let domains = end.clone().run_until_cancelled_owned(check_domains(app.clone()));
    let connections = end.clone().run_until_cancelled_owned(run_connection_upkeep(app.clone()));
    let (flush_app, flush_end) = (app.clone(), end.clone());
    let upkeep = end.clone().run_until_cancelled_owned(run_upkeep(app.clone(), metrics));
    let jobs = end.clone().run_until_cancelled_owned(jobs::run(app.clone()));
    let heads = end.clone().run_until_cancelled_owned(publish_audit_heads(app.clone()));
    let readiness = end.clone().run_until_cancelled_owned(watch_readiness(app.clone()));
    vec![
        tokio::spawn(async { readiness.await.unwrap_or_default() }),
        tokio::spawn(async { heads.await.unwrap_or_default() }),
        tokio::spawn(async { jobs.await.unwrap_or_default() }),
        tokio::spawn(async move { meter_app.meter.run(meter_end).await }),
        tokio::spawn(async move { leases.run(leases_end).await }),
        tokio::spawn(async { retention.await.unwrap_or_default() }),
        tokio::spawn(async { domains.await.unwrap_or_default() }),
        tokio::spawn(async { connections.await.unwrap_or_default() }),
        tokio::spawn(async move { flush_rejections(flush_app, flush_end).await }),
        tokio::spawn(async { upkeep.await.unwrap_or_default() }),
    ]
}

/// Writes rejected requests, credentials and sign-ins.
async fn flush_rejections(app: App, end: CancellationToken) {
    let mut ticks = tokio::time::interval(REJECTION_FLUSH_INTERVAL);
    let mut is_running = true;
    while is_running {
        is_running = end.run_until_cancelled(ticks.tick()).await.is_some();
        app.rejections.flush_and_log().await;
    }
}

/// Publishes the heads of the audit log's chains at the start and daily, and hourly while servers
/// of a version without signed events may add events.
async fn publish_audit_heads(app: App) {
    let mut ticks = tokio::time::interval(HEAD_PUBLISH_INTERVAL);
    loop {
        ticks.tick().await;
        match audit::publish_heads(&app).await {
            Ok(is_upgrade) if is_upgrade => ticks.reset_after(CLEANUP_INTERVAL),
            Ok(_) => {}
            Err(error) => {
                let cause = error.cause();
                tracing::warn!(%cause, "could not publish audit chain heads; retrying in 1 h");
                ticks.reset_after(CLEANUP_INTERVAL);
            }
        }
    }
}

/// Frees memory: aggregates the samples of histograms, which would accumulate while no client reads
/// the metrics, removes full rate limit buckets, and closes idle database connections.
async fn run_upkeep(app: App, metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
        app.rate_limits.remove_full();
        app.pools().for_each(Database::close_idle);
    }
}

/// Checks regularly whether the database accepts writes.
async fn watch_readiness(app: App) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        app.readiness.watch().await;
    }
}

/// Deletes rows past their retention, hourly.
async fn run_retention(app: App) {
    let mut ticks = hourly(&app);
    loop {
        ticks.tick().await;
        retention::sweep(&app).await;
    }
}

/// Checks the verified domains that are due. Each is due once a day, on one of the servers.
async fn check_domains(app: App) {
    if !app.config.sso.is_on {
        return;
    }
    let mut ticks = tokio::time::interval(DOMAIN_CHECK_INTERVAL);
    loop {
        ticks.tick().await;
        if let Err(error) = domain_checks::check_due(&app).await {
            tracing::warn!(cause = %error.cause(), "domains could not be checked; will retry");
        }
    }
}
/// Keeps connections to identity providers current, hourly.
async fn run_connection_upkeep(app: App) {
    let mut ticks = hourly(&app);
    loop {
        ticks.tick().await;
        upkeep::run(&app).await;
    }
}

/// Returns an interval of an hour that begins at a random time within 10 minutes, so that servers
/// that were started together do not run it together.
fn hourly(app: &App) -> Interval {
    let mut random = [0];
    app.entropy.fill(&mut random);
    let first = Instant::now() + FIRST_SWEEP * u32::from(random[0]) / 256;
    tokio::time::interval_at(first, CLEANUP_INTERVAL)
}
