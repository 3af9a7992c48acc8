//! The details that every family reports in addition to an error's code and message, defined once.
//!
//! A new detail is a field of `DetailValues`, a line of its `from`, and a field of the macro
//! `with_error_details`, which puts it into every family's wire struct.

use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, ErrorKind, Issue};
use crate::http::render::kinds::mapping;

/// The details of a kind of error.
#[derive(Default, PartialEq, Eq)]
pub(in crate::http) struct DetailValues {
    pub missing_scopes: Vec<String>,
    pub required_role: Option<String>,
    pub resource: Option<&'static str>,
    pub limit: Option<u64>,
    pub used: Option<u64>,
}

impl From<&ErrorKind> for DetailValues {
    fn from(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::MissingScopes(scopes) => {
                Self { missing_scopes: scopes.clone(), ..Self::default() }
            }
            ErrorKind::MissingRole(role) => {
                Self { required_role: Some(role.clone()), ..Self::default() }
            }
            ErrorKind::PlanLimit { resource, limit, used }
            | ErrorKind::QuotaExceeded { resource, limit, used } => Self {
                resource: Some(resource),
                limit: Some(*limit),
                used: Some(*used),
                ..Self::default()
            },
            ErrorKind::Malformed
            | ErrorKind::Invalid
            | ErrorKind::Unauthenticated(_)
            | ErrorKind::Forbidden
            | ErrorKind::EmailNotVerified
            | ErrorKind::OrganizationSuspended
            | ErrorKind::SsoSessionScoped
            | ErrorKind::SsoNotConfigured
            | ErrorKind::NotFound
            | ErrorKind::MethodNotAllowed
            | ErrorKind::Conflict
            | ErrorKind::Gone
            | ErrorKind::EmailTaken
            | ErrorKind::DomainTaken
            | ErrorKind::DomainRecordNotFound
            | ErrorKind::IdempotencyKeyReused
            | ErrorKind::IdempotencyKeyInUse
            | ErrorKind::TooLarge
            | ErrorKind::UnsupportedMediaType
            | ErrorKind::RateLimited
            | ErrorKind::Internal
            | ErrorKind::Upstream
            | ErrorKind::Oauth(_)
            | ErrorKind::Unavailable => Self::default(),
        }
    }
}

/// Returns whether an error has issues or other details.
#[must_use]
pub fn has_details(error: &Error) -> bool {
    !error.issues().is_empty() || DetailValues::from(error.kind()) != DetailValues::default()
}

/// Defines a wire struct: its own fields, then the details that every family shares, and
/// `with_details_of(error)`, which returns the details of an error and defaults for other fields.
/// Attributes after the struct are those of its `required_role`.
macro_rules! with_error_details {
    ($(#[$meta:meta])* pub struct $name:ident { $($own:tt)* } $(#[$role:meta])*) => {
        #[derive(Default, serde::Serialize, utoipa::ToSchema)]
        $(#[$meta])*
        pub struct $name {
            $($own)*
            /// The scopes that the credential lacks.
            #[serde(skip_serializing_if = "Vec::is_empty")]
            missing_scopes: Vec<String>,
            /// The role that the account lacks.
            #[serde(skip_serializing_if = "Option::is_none")]
            $(#[$role])*
            required_role: Option<String>,
            /// The resource whose limit is reached.
            #[serde(skip_serializing_if = "Option::is_none")]
            resource: Option<&'static str>,
            /// The limit.
            #[serde(skip_serializing_if = "Option::is_none")]
            limit: Option<u64>,
            /// How much of it is used.
            #[serde(skip_serializing_if = "Option::is_none")]
            used: Option<u64>,
        }

        impl $name {
            fn with_details_of(error: &$crate::error::Error) -> Self {
                let details = $crate::http::render::details::DetailValues::from(error.kind());
                Self {
                    missing_scopes: details.missing_scopes,
                    required_role: details.required_role,
                    resource: details.resource,
                    limit: details.limit,
                    used: details.used,
                    ..Self::default()
                }
            }
        }
    };
}

pub(in crate::http) use with_error_details;

with_error_details! {
    /// The code, issues and details of an error, in the families that share one list of codes.
    #[schema(as = ErrorDetails)]
    pub struct ErrorDetails {
        /// The kind of error.
        pub code: &'static str,
        /// Every invalid field.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub issues: Vec<WireIssue>,
    }
}

impl From<&Error> for ErrorDetails {
    fn from(error: &Error) -> Self {
        let (code, issues) = (mapping(error.kind()).code, WireIssue::all_of(error));
        Self { code, issues, ..Self::with_details_of(error) }
    }
}

/// An invalid field.
#[derive(Serialize, ToSchema)]
#[schema(as = ErrorIssue)]
pub struct WireIssue {
    /// The path to the field from the top of the body; empty for the body itself.
    pub path: Vec<String>,
    /// What is wrong with it and what is needed.
    pub message: String,
    /// The accepted values, if they are a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_values: Vec<&'static str>,
}

impl WireIssue {
    /// Returns every issue of an error.
    pub fn all_of(error: &Error) -> Vec<Self> {
        error.issues().iter().map(Self::from).collect()
    }
}

impl From<&Issue> for WireIssue {
    fn from(issue: &Issue) -> Self {
        Self {
            path: issue.path.clone(),
            message: issue.message.to_string(),
            allowed_values: issue.allowed.clone(),
        }
    }
}

/// Describes the error responses of a family's routes in the API description: one type for each
/// status, all with the body `$body`.
macro_rules! error_responses {
    ($body:ty, $($(#[$doc:meta])* $name:ident = $status:literal, $description:literal;)*) => {$(
        $(#[$doc])*
        #[derive(utoipa::IntoResponses)]
        #[response(status = $status, description = $description)]
        #[expect(dead_code, reason = "only described, in the API document")]
        pub struct $name($body);
    )*};
}

pub(in crate::http) use error_responses;
