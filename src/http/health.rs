//! Whether the server lives, and whether it can answer.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::app::readiness::DatabaseStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::http::render::problem::Problem;

/// How a server is.
#[derive(Serialize, ToSchema)]
#[schema(as = health::Health)]
pub struct Health {
    /// `ok`; `read_only` where the database takes no changes.
    #[schema(examples("ok"))]
    status: &'static str,
}

const OK: Json<Health> = Json(Health { status: "ok" });
const READ_ONLY: Json<Health> = Json(Health { status: "read_only" });

/// The routes outside every family, without a caller and never refused for load.
pub fn routes() -> Router<App> {
    Router::new().route("/health/live", get(live)).route("/health/ready", get(ready))
}

/// Whether the process runs.
///
/// Says nothing of the database: a restart would not bring it back.
#[utoipa::path(get, path = "/health/live", operation_id = "getHealthLive", tag = "health",
    responses((status = 200, description = "It runs.", body = Health)))]
pub(super) async fn live() -> Json<Health> {
    OK
}

/// Whether requests can be answered: the server is not stopping, the database answers, its schema
/// is the one this server was built for, and so are the role, policies and privileges that keep
/// tenants apart. Where it takes no changes, the status is `read_only` (503 where the operator says
/// so).
#[utoipa::path(get, path = "/health/ready", operation_id = "getHealthReady", tag = "health",
    responses(
        (status = 200, description = "They can.", body = Health),
        (status = 503, description = "They can not, just now.", body = Problem,
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
            Err(Error::new(ErrorKind::Unavailable, "The database takes no changes (read_only)"))
        }
        Err(error) => Err(Error::unavailable(error)),
    }
}
