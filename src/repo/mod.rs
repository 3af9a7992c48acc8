//! The only place with SQL: one file per table or aggregate.
//!
//! Functions take the connection first and never commit. On a tenant's data they take the
//! organization's id (or a digest that only the owner of a secret can have) and put it in the
//! `where`. The database decides what is unique: a violated constraint, by its name, becomes a
//! conflict.

pub mod account_access;
pub mod account_callers;
pub mod accounts;
pub mod audit_chain;
pub mod audit_events;
pub mod audit_heads;
pub mod audit_retention;
pub mod billing_customers;
pub mod callers;
pub mod catalog;
pub mod connection_settings;
pub mod deleted_organizations;
pub mod email_tokens;
pub mod ended_subscriptions;
pub mod idempotency_keys;
pub mod invites;
pub mod jobs;
pub mod key_claims;
pub mod key_invites;
pub mod key_lifecycle;
pub mod key_sessions;
pub mod keys;
pub mod known_credentials;
pub mod mails;
pub mod members;
pub mod memberships;
pub mod migrations;
pub mod online_migrations;
pub mod organization_statuses;
pub mod organizations;
pub mod payments;
pub mod pending_sign_ups;
pub mod personal_tokens;
pub mod projects;
pub mod rate_limits;
pub mod rejections;
pub mod rls;
pub mod schema_diff;
pub mod sessions;
pub mod tenant_access;
pub mod unfulfilled_checkouts;
pub mod usage;

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::error::Error;

/// SQLSTATEs after which a connection is not to be used again: it is cut off, or its server is
/// read-only, going down or coming up.
const CONNECTION_LOST_CODES: [&str; 4] = ["25006", "57P01", "57P02", "57P03"];

/// Whether the failure means that the database is away rather than that the statement is wrong.
#[must_use]
pub fn is_database_unreachable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(refusal) => {
            let code = refusal.code();
            code.is_some_and(|code| {
                code.starts_with("08") || CONNECTION_LOST_CODES.contains(&code.as_ref())
            }) || refusal.try_downcast_ref().is_some_and(is_fatal)
        }
        _ => false,
    }
}

/// Whether the database closed the connection with it.
fn is_fatal(refusal: &PgDatabaseError) -> bool {
    matches!(refusal.severity(), PgSeverity::Fatal | PgSeverity::Panic)
}

/// Whether the disk of the database is full.
#[must_use]
pub fn is_disk_full(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|refusal| refusal.code().as_deref() == Some("53100"))
}

/// Whether the database gave up on the statement because of load or time: a lock or statement
/// timeout, a deadlock, a serialization failure, no free connection.
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

/// The name of the constraint that rejected a statement.
fn violated_constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().and_then(|refusal| refusal.constraint())
}

/// Converts violations of named constraints into conflicts that the caller can act on.
pub trait MapConstraintViolations<T> {
    /// Returns a conflict with the constraint's message where one of the list was violated.
    ///
    /// # Errors
    /// The conflict, or the original error.
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
