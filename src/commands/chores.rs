//! What goes on beside the requests: mail is sent, usage, refusals and denials are written down,
//! the heads of the audit log are published, leftovers are removed, metrics are kept small.

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::app::database::Database;
use crate::domain::{audit, mails, retention};

/// How often rows that are past their retention are removed.
const SWEEP: Duration = Duration::from_hours(1);
/// Within what time of its start a server first does so: it may not run for a whole interval.
const FIRST_SWEEP: Duration = Duration::from_mins(10);
/// How often refused keys are written to their organizations' trails, and refused requests down.
const TELL: Duration = Duration::from_secs(10);
/// How often the heads of the audit log are published.
const SEAL: Duration = Duration::from_hours(24);
/// How long a mail that another server queued, and did not send, waits at most.
const LOOK_FOR_MAIL: Duration = Duration::from_secs(30);
/// How long it waits at least, whatever is due.
const SHORTEST: Duration = Duration::from_millis(100);
/// How often memory is tidied.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts what goes on beside the requests; it ends when `end` is cancelled, with what was only
/// noted in memory written down.
pub fn start(app: &App, metrics: PrometheusHandle, end: &CancellationToken) -> Vec<JoinHandle<()>> {
    let (metered, meter_end) = (app.clone(), end.clone());
    let sweeping = end.clone().run_until_cancelled_owned(sweep(app.clone()));
    let (telling, tell_end) = (app.clone(), end.clone());
    let tidying = end.clone().run_until_cancelled_owned(tidy(app.clone(), metrics));
    let mailing = end.clone().run_until_cancelled_owned(send_mail(app.clone()));
    let sealing = end.clone().run_until_cancelled_owned(seal(app.clone()));
    let watching = end.clone().run_until_cancelled_owned(watch(app.clone()));
    vec![
        tokio::spawn(async { watching.await.unwrap_or_default() }),
        tokio::spawn(async { sealing.await.unwrap_or_default() }),
        tokio::spawn(async { mailing.await.unwrap_or_default() }),
        tokio::spawn(async move { metered.meter.run(meter_end).await }),
        tokio::spawn(async { sweeping.await.unwrap_or_default() }),
        tokio::spawn(async move { tell(telling, tell_end).await }),
        tokio::spawn(async { tidying.await.unwrap_or_default() }),
    ]
}

/// Sends what is queued: at once where this server queued it, when it is due again where it failed.
/// A mail that is cut off is anybody's again when its lease is over.
async fn send_mail(app: App) {
    loop {
        let tried = mails::deliver_due(&app).await;
        let due = match tried {
            Ok(_) => mails::next_due(&app).await,
            Err(error) => Err(error),
        };
        let due = due.unwrap_or_else(|error| {
            tracing::warn!(cause = %error.cause(), "looking for mail failed, tried again");
            None
        });
        let wait = due.map_or(LOOK_FOR_MAIL, |due| due.clamp(SHORTEST, LOOK_FOR_MAIL));
        let _ = tokio::time::timeout(wait, app.mail_waker.notified()).await;
    }
}

/// Tells organizations of their keys and their requests that were refused.
async fn tell(app: App, end: CancellationToken) {
    let mut ticks = tokio::time::interval(TELL);
    let mut goes_on = true;
    while goes_on {
        goes_on = end.run_until_cancelled(ticks.tick()).await.is_some();
        app.refusals.flush_and_log().await;
        if let Err(error) = app.sign_in_failures.flush().await {
            tracing::warn!(cause = %error.cause(), "failed sign-ins not written; will retry");
        }
        app.denials.flush_and_log().await;
    }
}

/// Publishes the heads of the audit log's chains: at the start and daily, and more often while
/// servers of a version before MACs may add events.
async fn seal(app: App) {
    let mut ticks = tokio::time::interval(SEAL);
    loop {
        ticks.tick().await;
        match audit::publish_heads(&app).await {
            Ok(is_upgrade) if is_upgrade => ticks.reset_after(SWEEP),
            Ok(_) => {}
            Err(error) => {
                let cause = error.cause();
                tracing::warn!(%cause, "audit heads not published; will retry in an hour");
                ticks.reset_after(SWEEP);
            }
        }
    }
}

/// Folds samples into their histograms, which would pile up where nobody reads them, forgets
/// addresses that do not try any more, and closes connections that nobody uses.
async fn tidy(app: App, metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
        app.limits.forget_full();
        app.pools().for_each(Database::close_idle);
    }
}

/// Looks whether the database takes changes.
async fn watch(app: App) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        app.readiness.watch().await;
    }
}

/// Removes what is past its retention. Servers that were started at once do not sweep at once: each
/// begins at some time within the first minutes.
async fn sweep(app: App) {
    let mut random = [0];
    app.entropy.fill(&mut random);
    let first = Instant::now() + FIRST_SWEEP * u32::from(random[0]) / 256;
    let mut ticks = tokio::time::interval_at(first, SWEEP);
    loop {
        ticks.tick().await;
        retention::sweep(&app).await;
    }
}
