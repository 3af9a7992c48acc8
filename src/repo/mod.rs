//! All SQL: one file per table or aggregate.
//!
//! Functions take the connection as the first parameter and never commit. Those for a tenant's data
//! take the organization's id (or a digest that only the owner of a secret can have) and use it in
//! the `where` clause. The database decides what is unique: the violation of a named constraint
//! becomes a conflict.

pub mod account_access;
pub mod account_callers;
pub mod accounts;
pub mod app_grants;
pub mod app_policies;
pub mod audit_chain;
pub mod audit_events;
pub mod audit_heads;
pub mod audit_retention;
pub mod billing_customers;
pub mod callers;
pub mod catalog;
pub mod connection_settings;
pub mod credential_changes;
pub mod credit_balances;
pub mod deleted_organizations;
pub mod email_tokens;
pub mod ended_subscriptions;
pub mod idempotency_keys;
pub mod invites;
pub mod jobs;
pub mod key_claims;
pub mod key_invites;
pub mod key_lifecycle;
pub mod key_lists;
pub mod key_sessions;
pub mod keys;
pub mod known_credentials;
pub mod leaks;
pub mod mails;
pub mod members;
pub mod memberships;
pub mod migrations;
pub mod oauth_app_secrets;
pub mod oauth_apps;
pub mod oauth_assertions;
pub mod oauth_callers;
mod oauth_client_keys;
pub mod oauth_clients;
pub mod oauth_codes;
pub mod oauth_devices;
pub mod oauth_documents;
pub mod oauth_grants;
pub mod oauth_registrations;
pub mod oauth_requests;
pub mod oauth_tokens;
pub mod online_migrations;
pub mod organization_settings;
pub mod organization_statuses;
pub mod organizations;
pub mod payments;
pub mod pending_sign_ups;
pub mod personal_tokens;
pub mod projects;
pub mod rate_limits;
pub mod rejections;
pub mod revocations;
pub mod rls;
pub mod schema_diff;
pub mod sessions;
pub mod sso_connections;
pub mod sso_domains;
pub mod sso_flows;
pub mod sso_identities;
pub mod sso_members;
pub mod sso_provider_metadata;
pub mod tenant_access;
pub mod unfulfilled_checkouts;
pub mod usage;
pub mod usage_events;
pub mod usage_hourly;

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::error::Error;

/// SQLSTATEs after which a connection must not be used again: it was terminated, or its server is
/// read-only, shutting down or starting.
const CONNECTION_LOST_CODES: [&str; 4] = ["25006", "57P01", "57P02", "57P03"];

/// Returns whether the error means that the database is unreachable rather than that the statement
/// failed.
#[must_use]
pub fn is_database_unreachable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => {
            let code = error.code();
            code.is_some_and(|code| {
                code.starts_with("08") || CONNECTION_LOST_CODES.contains(&code.as_ref())
            }) || error.try_downcast_ref().is_some_and(is_fatal)
        }
        _ => false,
    }
}

/// Returns whether the database closed the connection with this error.
fn is_fatal(error: &PgDatabaseError) -> bool {
    matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)
}

/// Returns whether the disk of the database is full.
#[must_use]
pub fn is_disk_full(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("53100"))
}

/// Returns whether the database canceled or rejected the statement because of load: a lock or
/// statement timeout, a deadlock, a serialization failure, insufficient resources, too many
/// connections.
fn is_overloaded(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| {
        code.starts_with("53") || matches!(code.as_ref(), "55P03" | "57014" | "40001" | "40P01")
    })
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        if is_database_unreachable(&error) || is_overloaded(&error) {
            Self::unavailable(error)
        } else {
            Self::internal(error)
        }
    }
}

/// Returns the name of the constraint that a statement violated.
fn violated_constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().and_then(|error| error.constraint())
}

/// Converts violations of named constraints into conflicts, with messages for the caller.
pub trait MapConstraintViolations<T> {
    /// Converts the error into a conflict with the constraint's message if a listed constraint was
    /// violated.
    ///
    /// # Errors
    /// The conflict, or the converted original error.
    fn map_constraint_violations(self, conflicts: &[(&str, &'static str)]) -> Result<T, Error>;
}

impl<T> MapConstraintViolations<T> for Result<T, sqlx::Error> {
    fn map_constraint_violations(self, conflicts: &[(&str, &'static str)]) -> Result<T, Error> {
        self.map_err(|error| {
            let constraint = violated_constraint(&error);
            let conflict = conflicts.iter().find(|(name, _)| Some(*name) == constraint);
            conflict.map_or_else(|| error.into(), |(_, message)| Error::conflict(*message))
        })
    }
}
