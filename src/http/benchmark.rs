//! What `tenantry benchmark` holds the product against: bare handlers behind the same accept loop.
//! No server of the product has these routes.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use sqlx::PgPool;

use crate::model::hex;
use crate::model::secret::Digest;
use crate::repo::callers;

/// `/bare` says a word; `/select/{digest}` asks the one question of the hot path, by itself.
pub fn router(pool: PgPool) -> Router {
    Router::new()
        .route("/bare", get(async || "ok"))
        .route("/select/{digest}", get(select))
        .with_state(pool)
}

/// Whose key has this digest: one statement for each request, on a connection of the pool.
async fn select(State(pool): State<PgPool>, Path(digest): Path<String>) -> StatusCode {
    let Some(digest) = hex::decode(&digest) else { return StatusCode::BAD_REQUEST };
    let Ok(mut db) = pool.acquire().await else { return StatusCode::SERVICE_UNAVAILABLE };
    match callers::find_by_digests(&mut db, &[Digest::new(digest)]).await {
        Ok(found) if found.len() == 1 => StatusCode::OK,
        Ok(_) => StatusCode::NOT_FOUND,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
