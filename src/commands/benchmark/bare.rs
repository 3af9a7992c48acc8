//! `tenantry benchmark-bare`, hidden: serves the bare handlers, in a process of their own as the
//! server is.

use std::io::Read;
use std::net::Ipv4Addr;
use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::net::TcpListener;

use crate::commands::{Failure, print};
use crate::http::benchmark::router;
use crate::http::listener::{ConnectionLimits, ShutdownSignal, serve};

/// As many connections as a server has by default.
const CONNECTIONS: u32 = 10;

/// Says where it listens, and serves until standard input ends.
///
/// # Errors
/// A URL that is none, or no address to listen on.
pub fn run(database: &str) -> Result<(), Failure> {
    let options = PgConnectOptions::from_str(database)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        print(&format!("http://{}\n", listener.local_addr()?))?;
        // Nothing that a bare handler can do without: connections are not asked whether they live.
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
