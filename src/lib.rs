//! Tenantry: everything between a stranger and an authenticated request, as one binary and one
//! Postgres.
//!
//! # The map
//!
//! ```text
//! commands ─► http ─► domain ─► repo ─► model ─► error, clock, entropy       never upward
//!     │         └───────┴─► app ─┘ (connections, secrets, the hot path) ─► config
//!     └─► postgres (the embedded default), telemetry
//! ```
//!
//! | room | what it is |
//! |---|---|
//! | [`error`] | the one error; knows nothing of HTTP |
//! | [`model`] | plain data and its rules; a raw string becomes a type here or nowhere |
//! | [`repo`] | the only place with SQL; never commits |
//! | [`app`] | what one running server holds; the key lookup and the meter |
//! | [`domain`] | the operations; opens and commits transactions |
//! | [`jobs`] | the worker of queued jobs; mail is one kind |
//! | [`http`] | routes, guards, wire structs, errors rendered for each family |
//! | [`server`] | the accept loop: deadlines, connection caps, draining |
//! | [`config`] | environment variables, all problems at once |
//! | [`postgres`] | a private cluster of a real Postgres; nothing else knows how it is run |
//! | [`telemetry`] | logs, metrics, traces |
//! | [`commands`] | what the binary can be told to do |
//!
//! # The invariants
//!
//! - A plaintext key or token is in the answer that mints it and nowhere else. Below the edge it
//!   is a [`model::secret::Secret`], and in the database a [`model::secret::Digest`].
//! - There is no cache of good credentials: a revocation is true everywhere when it commits.
//! - The database decides what is unique and what has expired.
//! - A change and its audit row are one transaction. The row carries a MAC under a secret that the
//!   database does not hold, and at the end of the transaction is linked into its organization's
//!   chain of digests, sealed at its place.

pub mod app;
pub mod clock;
pub mod commands;
pub mod config;
pub mod domain;
pub mod entropy;
pub mod error;
pub mod http;
pub mod jobs;
pub mod model;
pub mod postgres;
pub mod repo;
pub mod server;
pub mod telemetry;
