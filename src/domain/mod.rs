//! The operations of the product. Each happens completely or not at all.
//!
//! An operation writes its audit event in the transaction of its change. Operations that accept an
//! Idempotency-Key run in the transaction that [`idempotency::run_once`] opens and commits; the
//! others open their own. Guards decide whether the caller is allowed; operations check again, in
//! their transaction, where a credential is created or a tenant's data is changed. Handlers read
//! from [`crate::repo`] directly where nothing is changed.

pub mod accounts;
pub mod audit;
pub mod billing;
pub mod idempotency;
pub mod keys;
pub mod links;
pub mod mail;
pub mod organizations;
pub mod retention;
