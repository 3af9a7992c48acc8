//! What goes on beside the requests: jobs are done, usage, refusals and denials are written down,
//! the heads of the audit log are published, leftovers are removed, metrics are kept small.

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
/// Within what time of its start a server first does so: it may not run for a whole interval.
const FIRST_SWEEP: Duration = Duration::from_mins(10);
/// How often refused keys are written to their organizations' trails, and refused requests down.
const REJECTION_FLUSH_INTERVAL: Duration = Duration::from_secs(10);
/// How often the heads of the audit log are published.
const HEAD_PUBLISH_INTERVAL: Duration = Duration::from_hours(24);
/// How often memory is tidied.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts what goes on beside the requests; it ends when `end` is cancelled, with what was only
/// noted in memory written down.
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

/// Tells organizations of their keys and their requests that were refused.
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

/// Folds samples into their histograms, which would pile up where nobody reads them, forgets
/// addresses that do not try any more, and closes connections that nobody uses.
async fn run_upkeep(app: App, metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
        app.rate_limits.forget_full();
        app.pools().for_each(Database::close_idle);
    }
}

/// Looks whether the database takes changes.
async fn watch_readiness(app: App) {
    let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        ticks.tick().await;
        app.readiness.watch().await;
    }
}

/// Removes what is past its retention. Servers that were started at once do not sweep at once: each
/// begins at some time within the first minutes.
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
