//! Metrics for the operator, on a separate listener that callers of the API need not reach.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::middleware::from_fn;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics::{counter, gauge};
use metrics_exporter_prometheus::PrometheusHandle;
use metrics_process::Collector;

use crate::app::App;
use crate::http::edge::host;
use crate::model::mail::MailKind;
use crate::model::rate_limit::RateLimit;

/// Returns the route `GET /metrics`, in Prometheus's text format.
pub fn router(app: App, handle: PrometheusHandle) -> Router {
    register();
    let process = Collector::default();
    process.describe();
    let routes = Router::new().route("/metrics", get(show)).with_state((app, handle, process));
    routes.layer(from_fn(host::middleware))
}

/// Registers counters of rare events at zero. If a counter first appeared with its first event, an
/// alert on its rate would miss that event.
fn register() {
    for (name, outcomes) in [
        ("key_lookups_total", &["found", "unknown", "refused", "failed"][..]),
        ("password_hashes_total", &["done", "refused"]),
        ("trace_exports_total", &["sent", "failed"]),
        ("trace_spans_total", &["sent", "failed"]),
        ("usage_flushes_total", &["written", "failed"]),
        ("stripe_events_total", &["unfulfilled", "invalid", "failed"]),
    ] {
        for outcome in outcomes {
            counter!(name, "outcome" => *outcome).increment(0);
        }
    }
    for kind in MailKind::NAMES {
        for outcome in ["sent", "failed"] {
            counter!("mails_total", "kind" => kind, "outcome" => outcome).increment(0);
        }
    }
    counter!("requests_shed_total").increment(0);
    for limit in RateLimit::ALL {
        counter!("rate_limited_total", "limit" => limit.as_str(), "mode" => "enforced")
            .increment(0);
        counter!("rate_limit_fallbacks_total", "limit" => limit.as_str()).increment(0);
    }
}

type MetricsState = (App, PrometheusHandle, Collector);

async fn show(State((app, handle, process)): State<MetricsState>) -> impl IntoResponse {
    process.collect();
    set_gauge(&gauge!("http_requests_in_flight"), app.in_flight.total());
    set_gauge(&gauge!("http_requests_in_flight_limit"), app.config.http.max_in_flight);
    set_gauge(&gauge!("revocation_polls_waiting"), app.revocation_feed.waiting());
    let (running, waiting) = app.password_hasher.load();
    set_gauge(&gauge!("password_hash_queue", "state" => "running"), running);
    set_gauge(&gauge!("password_hash_queue", "state" => "waiting"), waiting);
    for pool in app.pools() {
        let (open, idle) = pool.connections();
        for (state, count) in [("idle", idle), ("busy", open - idle)] {
            set_gauge(&gauge!("db_connections", "pool" => pool.name(), "state" => state), count);
        }
        set_gauge(&gauge!("db_pool_waiting", "pool" => pool.name()), pool.waiting());
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render())
}

fn set_gauge(gauge: &metrics::Gauge, count: usize) {
    gauge.set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
}
