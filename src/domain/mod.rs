//! The operations: what happens, whole or not at all.
//!
//! Each writes its audit row in the transaction of the change. Those that can come again with an
//! Idempotency-Key work in the transaction that [`idempotency::run_once`] opens and commits; the
//! others open their own. Whoever may do it was decided by a guard, and is asked again here where a
//! credential is made, and where a tenant's things are changed. What is only read is read by the
//! handlers themselves.

pub mod accounts;
pub mod audit;
pub mod audit_retention;
pub mod billing;
pub mod containment;
pub mod default_key;
pub mod email_verification;
pub mod idempotency;
pub mod invites;
pub mod key_changes;
pub mod key_claims;
pub mod key_import;
pub mod key_invites;
pub mod key_sessions;
pub mod keys;
pub mod links;
pub mod mails;
pub mod members;
pub mod organization_status;
pub mod organizations;
pub mod password_resets;
pub mod passwords;
pub mod pending_sign_ups;
pub mod personal_tokens;
pub mod plan_limits;
pub mod projects;
pub mod provisioning;
pub mod retention;
pub mod sessions;
pub mod signup;
pub mod unfulfilled_checkouts;
pub mod unproven_accounts;
