//! Metrics, on a listener of their own: they are for the operator, not for callers.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::middleware::from_fn;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::app::App;
use crate::http::host;

/// `GET /metrics` in Prometheus's text format.
pub fn router(app: App, handle: PrometheusHandle) -> Router {
    let routes = Router::new().route("/metrics", get(show)).with_state((app, handle));
    routes.layer(from_fn(host::required))
}

async fn show(State((app, handle)): State<(App, PrometheusHandle)>) -> impl IntoResponse {
    for pool in app.pools() {
        let (open, idle) = pool.connections();
        for (state, count) in [("idle", idle), ("busy", open - idle)] {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            gauge!("db_connections", "pool" => pool.name(), "state" => state).set(f64::from(count));
        }
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render())
}
