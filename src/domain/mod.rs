//! The operations of the service, each applied completely or not at all.
//!
//! Each operation writes its audit event in the transaction of the change. Those that a client can
//! repeat with an Idempotency-Key run in the transaction that [`idempotency::run_once`] opens and
//! commits; the others open their own. A guard at the edge of HTTP authorizes the caller first.
//! Operations that create a credential or change an organization's data check the caller again,
//! because its credential may have ended since. Handlers read from `repo` directly where nothing is
//! changed.

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
