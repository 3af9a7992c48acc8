//! The background work of a server: it runs jobs, writes usage and rejections, publishes the heads
//! of the audit log, removes what is past its retention, and keeps memory small.

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::app::database::Database;
use crate::domain::audit;
use crate::domain::retention;
use crate::jobs;

/// How often rows that are past their retention are removed.
const CLEANUP_INTERVAL: Duration = Duration::from_hours(1);
/// Within what time of its start a server first does so, since it may not run for an interval.
const FIRST_SWEEP: Duration = Duration::from_mins(10);
/// How often rejected credentials and requests are written to the database.
const REJECTION_FLUSH_INTERVAL: Duration = Duration::from_secs(10);
/// How often the heads of the audit log are published.
const HEAD_PUBLISH_INTERVAL: Duration = Duration::from_hours(24);
/// How often memory is freed.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts the background work. It ends when `end` is cancelled, after what was collected in memory
/// is written.
pub fn start(app: &App, metrics: PrometheusHandle, end: &CancellationToken) -> Vec<JoinHandle<()>> {
    let (meter_app, meter_end) = (app.clone(), end.clone());
    let retention = end.clone().run_until_cancelled_owned(run_retention(app.clone()));
    let (flush_app, tell_end) = (app.clone(), end.clone());
    let upkeep = end.clone().run_until_cancelled_owned(run_upkeep(app.clone(), metrics));
    let jobs = end.clone().run_until_cancelled_owned(jobs::run(app.clone()));
    let heads = end.clone().run_until_cancelled_owned(publish_audit_heads(app.clone()));
    let readiness = end.clone().run_until_cancelled_owned(watch_readiness(app.clone()));
    vec![
        tokio::spawn(async { readiness.await.unwrap_or_default() }),
        tokio::spawn(async { heads.await.unwrap_or_default() }),
        tokio::spawn(async { jobs.await.unwrap_or_default() }),
        tokio::spawn(async move { meter_app.meter.run(meter_end).await }),
        tokio::spawn(async { retention.await.unwrap_or_default() }),
        tokio::spawn(async move { flush_rejections(flush_app, tell_end).await }),
        tokio::spawn(async { upkeep.await.unwrap_or_default() }),
    ]
}

/// Writes collected rejections to the organizations' lists and audit logs.
async fn flush_rejections(app: App, end: CancellationToken) {
    let mut ticks = tokio::time::interval(REJECTION_FLUSH_INTERVAL);
    let mut is_running = true;
    while is_running {
        is_running = end.run_until_cancelled(ticks.tick()).await.is_some();
        app.rejected_credentials.flush_and_log().await;
        if let Err(error) = app.sign_in_failures.flush().await {
            tracing::warn!(cause = %error.cause(), "failed sign-ins not written; will retry");
        }
        app.rejections.flush_and_log().await;
    }
}

/// Publishes the heads of the audit log's chains: at the start and daily, and more often while
/// servers of a version before MACs may add events.
async fn publish_audit_heads(app: App) {
    let mut ticks = tokio::time::interval(HEAD_PUBLISH_INTERVAL);
    loop {
        ticks.tick().await;
        match audit::publish_heads(&app).await {
            Ok(is_upgrade) if is_upgrade => ticks.reset_after(CLEANUP_INTERVAL),
            Ok(_) => {}
            Err(error) => {
                let cause = error.cause();
                tracing::warn!(%cause, "audit heads not published; will retry in an hour");
                ticks.reset_after(CLEANUP_INTERVAL);
            }
        }
    }
}

/// Aggregates histogram samples, which would accumulate where no metrics are scraped, drops
/// addresses that are no longer active, and closes idle connections.
async fn run_upkeep(app: App, metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
        app.rate_limits.forget_full();
        app.pools().for_each(Database::close_idle);
    }
}

/// Checks whether the database accepts writes.
async fn watch_readiness(app: App) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        app.readiness.watch().await;
    }
}

/// Removes what is past its retention. Each server begins at a random time within the first
/// minutes, so that servers that start together do not sweep together.
async fn run_retention(app: App) {
    let mut random = [0];
    app.entropy.fill(&mut random);
    let first = Instant::now() + FIRST_SWEEP * u32::from(random[0]) / 256;
    let mut ticks = tokio::time::interval_at(first, CLEANUP_INTERVAL);
    loop {
        ticks.tick().await;
        retention::sweep(&app).await;
    }
}
