//! The operations of the service, each applied completely or not at all.
//!
//! Each operation writes its audit event in the transaction of the change. Those that a client can
//! repeat with an Idempotency-Key run in the transaction that [`idempotency::run_once`] opens and
//! commits; the others open their own. A guard at the edge of HTTP authorizes the caller first.
//! Operations that create a credential or change an organization's data check the caller again,
//! because its credential may have ended since. Handlers that only read call `repo` directly.

pub mod accounts;
pub mod audit;
pub mod billing;
pub mod idempotency;
pub mod key_sets;
pub mod keys;
pub mod leaks;
pub mod links;
pub mod mail;
pub mod oauth;
pub mod organizations;
pub mod retention;
pub mod sso;
pub mod verification;
