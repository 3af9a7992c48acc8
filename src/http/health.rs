//! Liveness and readiness of the server.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::app::readiness::DatabaseStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::http::render::problem::Problem;

/// The status of a server.
#[derive(Serialize, ToSchema)]
#[schema(as = health::Health)]
pub struct Health {
    /// `ok`, or `read_only` if the database accepts no changes.
    #[schema(examples("ok"))]
    status: &'static str,
}

const OK: Json<Health> = Json(Health { status: "ok" });
const READ_ONLY: Json<Health> = Json(Health { status: "read_only" });

/// Returns the health routes. They require no credential and are never rejected because of load.
pub fn routes() -> Router<App> {
    Router::new().route("/health/live", get(live)).route("/health/ready", get(ready))
}

/// Check that the process is running.
///
/// The database is not checked, since restarting the server would not repair it.
#[utoipa::path(get, path = "/health/live", operation_id = "getHealthLive", tag = "health",
    responses((status = 200, description = "The process is running.", body = Health)))]
pub(super) async fn live() -> Json<Health> {
    OK
}

/// Check that the server is ready for requests.
///
/// It is ready if it is not stopping, the database responds, and the database has the schema that
/// the server was built for and the expected role, policies and privileges for tenant isolation. If
/// the database accepts no changes, the status is `read_only`; the operator configures whether that
/// is a 200 or a 503.
#[utoipa::path(get, path = "/health/ready", operation_id = "getHealthReady", tag = "health",
    responses(
        (status = 200, description = "The server is ready.", body = Health),
        (status = 503, description = "The server is not ready.", body = Problem,
         content_type = "application/problem+json")))]
pub(super) async fn ready(State(app): State<App>) -> Result<Json<Health>> {
    if app.is_stopping() {
        return Err(Error::new(ErrorKind::Unavailable, "The server is stopping"));
    }
    match app.readiness.check().await {
        Ok(DatabaseStatus::Ready) => Ok(OK),
        Ok(DatabaseStatus::ReadOnly) if app.config.database.is_ready_when_read_only => {
            Ok(READ_ONLY)
        }
        Ok(DatabaseStatus::ReadOnly) => {
            Err(Error::new(ErrorKind::Unavailable, "The database accepts no changes (read_only)"))
        }
        Err(error) => Err(Error::unavailable(error)),
    }
}
