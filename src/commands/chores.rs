//! What goes on beside the requests: usage and refusals are written down, leftovers are removed,
//! metrics are kept small.

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::repo::{idempotency_keys, key_sessions};

/// How often rows that nobody can use any more are removed.
const SWEEP: Duration = Duration::from_hours(1);
/// How often refused keys are written to their organizations' trails.
const TELL: Duration = Duration::from_secs(10);
/// How often samples are folded into their histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts what goes on beside the requests; it ends when `end` is cancelled, with what was only
/// noted in memory written down.
pub fn start(app: &App, metrics: PrometheusHandle, end: &CancellationToken) -> Vec<JoinHandle<()>> {
    let (metered, meter_end) = (app.clone(), end.clone());
    let sweeping = end.clone().run_until_cancelled_owned(sweep(app.clone()));
    let (telling, tell_end) = (app.clone(), end.clone());
    let tidying = end.clone().run_until_cancelled_owned(tidy(metrics));
    vec![
        tokio::spawn(async move { metered.meter.run(meter_end).await }),
        tokio::spawn(async { sweeping.await.unwrap_or_default() }),
        tokio::spawn(async move { tell(telling, tell_end).await }),
        tokio::spawn(async { tidying.await.unwrap_or_default() }),
    ]
}

/// Tells organizations of their keys that were refused.
async fn tell(app: App, end: CancellationToken) {
    let mut ticks = tokio::time::interval(TELL);
    let mut goes_on = true;
    while goes_on {
        goes_on = end.run_until_cancelled(ticks.tick()).await.is_some();
        if let Err(error) = app.refusals.flush().await {
            tracing::warn!(cause = %error.cause(), "refused keys not written to the trail");
        }
    }
}

/// Folds samples into their histograms: those that nobody reads would pile up otherwise.
async fn tidy(metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

/// Removes what nobody can use any more, a part at a time, until there is no more of it.
async fn sweep(app: App) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        loop {
            let swept = app.db.transaction(async |tx| {
                Ok((key_sessions::sweep(tx).await?, idempotency_keys::sweep(tx).await?))
            });
            match swept.await {
                Ok((0, 0)) => break,
                Ok((tokens, answers)) => tracing::debug!(tokens, answers, "swept"),
                Err(error) => {
                    let cause = error.cause();
                    tracing::warn!(%cause, "sweeping failed, tried again in an hour");
                    break;
                }
            }
        }
    }
}
