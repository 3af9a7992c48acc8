//! The test harness: a real Postgres, the real router, and a clock that only the test advances.
//!
//! ```ignore
//! #[tokio::test]
//! async fn a_guarantee() {
//!     run(async |app| {
//!         let acme = app.sign_up().await;
//!         app.key(&acme.api_key).get("/me").await.assert_status(200);
//!     })
//!     .await;
//! }
//! ```
//!
//! Every response is validated against the API's description. After every test, the database and
//! the log are searched for each plaintext secret that the test saw.

pub mod accounts;
pub mod app;
pub mod apps;
pub mod client;
pub mod database;
pub mod dedicated_postgres;
pub mod dns;
pub mod documents;
pub mod github;
pub mod identity_provider;
pub mod leaks;
pub mod locks;
pub mod nginx;
pub mod oauth;
pub mod pgbouncer;
pub mod ports;
pub mod rate_limits;
pub mod relay;
pub mod requests;
pub mod server;
pub mod smtp_sink;
pub mod socket;
pub mod spec;
pub mod sso;
pub mod stripe;
pub mod tls;
pub mod tools;
pub mod waiting;

pub use app::{TestApp, run, with_settings};
