//! `benchmark serve-bare`, hidden: serves bare handlers behind the product's accept loop, in a
//! separate process, as the server is.

use hex::FromHex;
use std::io::Read;
use std::net::Ipv4Addr;
use std::str::FromStr;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::net::TcpListener;

use tenantry::commands::{Failure, print};
use tenantry::model::secret::Digest;
use tenantry::repo::callers;
use tenantry::server::{ConnectionLimits, ShutdownSignal, serve};

/// The default number of a server's database connections.
const CONNECTIONS: u32 = 10;

/// Prints the address that it listens on, and serves until standard input ends.
///
/// # Errors
/// The database URL is invalid, or the listener cannot be created.
pub fn run(database: &str) -> Result<(), Failure> {
    let options = PgConnectOptions::from_str(database)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        print(&format!("http://{}\n", listener.local_addr()?))?;
        // Connections are not tested before use, so that a bare handler does only what it must.
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false);
        let stop = ShutdownSignal::default();
        let end = stop.close.clone();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            end.cancel();
        });
        let router = router(pool.connect_lazy_with(options));
        let _ = serve(listener, router, ConnectionLimits::default(), stop).await;
        Ok(())
    })
}

/// Returns the routes: `/bare` returns a constant, `/select/{digest}` runs only the key lookup.
fn router(pool: PgPool) -> Router {
    Router::new()
        .route("/bare", get(async || "ok"))
        .route("/select/{digest}", get(select))
        .with_state(pool)
}

/// Looks up the key with this digest: one statement per request, on a pooled connection.
async fn select(State(pool): State<PgPool>, Path(digest): Path<String>) -> StatusCode {
    let Some(digest) = <[u8; 32]>::from_hex(&digest).ok() else { return StatusCode::BAD_REQUEST };
    let Ok(mut db) = pool.acquire().await else { return StatusCode::SERVICE_UNAVAILABLE };
    match callers::find_by_digests(&mut db, &[Digest::new(digest)]).await {
        Ok(rows) if rows.len() == 1 => StatusCode::OK,
        Ok(_) => StatusCode::NOT_FOUND,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
