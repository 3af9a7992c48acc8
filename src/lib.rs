//! Tenantry: signup, accounts, organizations, API keys, limits and an audit log, as one binary and
//! one Postgres.
//!
//! # Modules
//!
//! ```text
//! commands ─► http ─► domain ─► repo ─► model ─► error, clock, entropy       never upward
//!     │         └───────┴─► app ─┘ (connections, secrets, the hot path) ─► config
//!     └─► postgres (a private cluster), telemetry
//! ```
//!
//! | module | contents |
//! |---|---|
//! | [`error`] | the crate's one error type; independent of HTTP |
//! | [`model`] | plain data and its rules; raw strings are parsed into types only here |
//! | [`repo`] | all SQL; never commits |
//! | [`app`] | the state of one running server: connections, lookups, limits, the usage meter |
//! | [`domain`] | the operations; opens and commits transactions |
//! | [`jobs`] | the workers of queued jobs; mail is one kind |
//! | [`http`] | routes, guards, wire structs, errors rendered for each family |
//! | [`server`] | the accept loop: deadlines, connection caps, draining |
//! | [`config`] | settings from environment variables; reports all problems at once |
//! | [`postgres`] | a private Postgres cluster that the server starts and stops itself |
//! | [`telemetry`] | logs, metrics, traces |
//! | [`commands`] | the commands of the binary |
//!
//! Comments cite the RFC that a rule comes from. `openapi.yaml` describes the routes.
//!
//! # Invariants
//!
//! - A plaintext key or token appears only in the response that creates it. Inside the process it
//!   is a [`model::secret::Secret`], and in the database a [`model::secret::Digest`].
//! - A cached credential is validated at each use: a revocation takes effect on every server when
//!   it commits.
//! - The database decides what is unique and what has expired.
//! - A change and its audit event are written in one transaction. The event carries a MAC under a
//!   secret that the database does not contain. When the transaction ends, the event is linked into
//!   its organization's chain of digests, and its position in the chain is sealed.

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
