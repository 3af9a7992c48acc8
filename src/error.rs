//! The crate's error type: a message for the caller and a private source for the log.
//!
//! It is independent of HTTP. Each route family maps an [`ErrorKind`] to its own status, code and
//! body (`http::render`), in a `match` without a wildcard: a new kind does not compile until every
//! family handles it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// The maximum number of issues in one error. A small body can break a rule thousands of times, and
/// a response must not be many times the size of its request.
const MAX_ISSUES: usize = 50;

/// A result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every kind of failure that a caller can receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot be parsed: broken JSON, two credentials at once.
    Malformed,
    /// The request was parsed, but fields break rules. The issues list them.
    Invalid,
    /// An OAuth request is well-formed, and cannot be granted.
    Oauth(OauthFailure),
    /// The credential is missing or not valid.
    Unauthenticated(AuthFailure),
    /// The credential is valid, but lacks these scopes.
    MissingScopes(Vec<String>),
    /// The credential is valid, but its account lacks this role.
    MissingRole(String),
    /// The credential is valid, but may not do this.
    Forbidden,
    /// The password is correct, but the account's e-mail address must be verified first.
    EmailNotVerified,
    /// The credential's organization is suspended.
    OrganizationSuspended,
    /// The session began with single sign-on, and this is outside its organization.
    SsoSessionScoped,
    /// No identity provider is connected for this organization or address.
    SsoNotConfigured,
    /// The plan allows no more of this resource.
    PlanLimit {
        /// The limited resource, for example `keys`.
        resource: &'static str,
        /// The plan's limit.
        limit: u64,
        /// The current count.
        used: u64,
    },
    /// The resource does not exist or is not visible to this caller.
    NotFound,
    /// The path exists, but does not accept this method.
    MethodNotAllowed,
    /// The change conflicts with the current state.
    Conflict,
    /// The resource no longer exists.
    Gone,
    /// Another account has this e-mail address.
    EmailTaken,
    /// Another organization has verified this domain.
    DomainTaken,
    /// The DNS record that proves a domain was not found.
    DomainRecordNotFound,
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// Another request with this idempotency key is still running.
    IdempotencyKeyInUse,
    /// The body is larger than the route's size limit.
    TooLarge,
    /// The route does not accept the body's media type.
    UnsupportedMediaType,
    /// A rate limit is exceeded.
    RateLimited,
    /// The plan's monthly quota is used up.
    QuotaExceeded {
        /// The resource, for example `requests`.
        resource: &'static str,
        /// The plan's quota.
        limit: u64,
        /// The amount used.
        used: u64,
    },
    /// A defect of this server.
    Internal,
    /// Another service that this server depends on failed.
    Upstream,
    /// The server is temporarily unable to respond: the database is unreachable, or a deadline
    /// passed.
    Unavailable,
}

/// Why authentication failed: the kind of credential that was missing or not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFailure {
    /// The request has no credential.
    MissingCredential,
    /// The API key is not valid.
    InvalidKey,
    /// The verifier's secret is missing or not valid.
    InvalidVerifier,
    /// The OAuth client is unknown, or did not authenticate as it is registered.
    InvalidClient,
    /// An access token, a session cookie or the token of a mailed link is not valid.
    InvalidToken,
    /// The e-mail address or the password is wrong.
    InvalidPassword,
    /// The password is correct, but the account is not active.
    InactiveAccount,
}

/// Why an OAuth request cannot be granted (RFC 6749 §5.2, RFC 8707 §2, RFC 7591 §3.2.2, RFC 8628
/// §3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OauthFailure {
    /// The code or the refresh token is not valid, or was issued for something else.
    InvalidGrant,
    /// The client may not use this grant type.
    UnauthorizedClient,
    /// The server does not know the grant type.
    UnsupportedGrantType,
    /// A scope is unknown, or the client may not request it.
    InvalidScope,
    /// A resource is unknown, or not one of those that were granted.
    InvalidTarget,
    /// A redirect URI of a registration breaks rules.
    InvalidRedirectUri,
    /// Another member of a registration breaks rules.
    InvalidClientMetadata,
    /// The person has not answered a device's request yet (RFC 8628 §3.5).
    AuthorizationPending,
    /// As above, and the device polls too often (RFC 8628 §3.5).
    SlowDown,
    /// The person did not answer a device's request in time (RFC 8628 §3.5).
    ExpiredToken,
    /// The person denied a device's request (RFC 8628 §3.5).
    AccessDenied,
}

impl OauthFailure {
    /// Returns the error code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::InvalidRedirectUri => "invalid_redirect_uri",
            Self::InvalidClientMetadata => "invalid_client_metadata",
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::ExpiredToken => "expired_token",
            Self::AccessDenied => "access_denied",
        }
    }
}

/// The part of a request that a field is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// In the body.
    Body,
    /// In the query string.
    Query,
    /// In a header.
    Header,
}

/// One invalid field: where it is and which rule it breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The part of the request.
    pub location: Location,
    /// The path to the field from the top of the body; empty for the body itself.
    pub path: Vec<String>,
    /// What the caller has to change.
    pub message: Cow<'static, str>,
    /// The allowed values of a field that takes one of a list; otherwise empty.
    pub allowed: Vec<&'static str>,
}

impl Issue {
    /// Creates an issue of the field `name` at the top of the body.
    pub fn field(name: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        let path = vec![name.into()];
        Self { location: Location::Body, path, message: message.into(), allowed: Vec::new() }
    }

    /// Creates an issue of the body as a whole.
    pub fn body(message: impl Into<Cow<'static, str>>) -> Self {
        let (path, allowed) = (Vec::new(), Vec::new());
        Self { location: Location::Body, path, message: message.into(), allowed }
    }

    /// Creates an issue of a field that takes one of the `allowed` values.
    pub fn one_of(name: impl Into<String>, allowed: Vec<&'static str>) -> Self {
        let message = format!("must be one of {}", allowed.join(", "));
        Self { allowed, ..Self::field(name, message) }
    }

    /// Sets the part of the request that the field is in.
    #[must_use]
    pub fn with_location(mut self, location: Location) -> Self {
        self.location = location;
        self
    }
}

/// A failed operation. `Display` is the message for the caller and never contains the source.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    issues: Vec<Issue>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error with a message for the caller.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), issues: Vec::new(), retry_after: None, source: None }
    }

    /// Creates an error for a request that cannot be parsed.
    pub fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Malformed, message)
    }

    /// Creates an error for fields that break rules: all of them, in the order of the body.
    #[must_use]
    pub fn invalid(issues: Vec<Issue>) -> Self {
        Self::new(ErrorKind::Invalid, "The request is not valid").with_issues(issues)
    }

    /// Creates an error for a credential that is missing or not valid.
    pub fn unauthenticated(failure: AuthFailure, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unauthenticated(failure), message)
    }

    /// Creates an error for a valid credential that may not do this.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Forbidden, message)
    }

    /// Creates an error for a resource that does not exist or is not visible to the caller.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// Creates an error for a change that conflicts with the current state.
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// Creates an error for a defect of this server. The message gives the caller no details.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Internal, "Internal server error").with_source(source)
    }

    /// Creates an error for a server that is temporarily unable to respond. The caller may retry
    /// after 1 second.
    pub fn unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Unavailable, "The service is temporarily unavailable; try again")
            .with_retry_after(Duration::from_secs(1))
            .with_source(source)
    }

    /// Adds the invalid fields: the first 50, then the number of the others.
    #[must_use]
    pub fn with_issues(mut self, mut issues: Vec<Issue>) -> Self {
        let more = issues.len().saturating_sub(MAX_ISSUES);
        if more > 0 {
            issues.truncate(MAX_ISSUES);
            let plural = if more == 1 { "" } else { "s" };
            issues.push(Issue::body(format!("and {more} more issue{plural}")));
        }
        self.issues = issues;
        self
    }

    /// Adds the source, which appears only in the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds the time after which the caller may retry.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Returns the kind of failure.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Returns the message for the caller.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the invalid fields.
    #[must_use]
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }

    /// Returns the message and the whole chain of sources, for the log.
    #[must_use]
    pub fn cause(&self) -> Cause<'_> {
        Cause(self)
    }

    /// Returns the whole seconds, at least 1, after which the caller may retry.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after
            .map(|after| after.as_secs() + u64::from(after.subsec_nanos() > 0))
            .map(|seconds| seconds.max(1))
    }
}

/// Displays an error and its chain of sources in one line.
pub struct Cause<'a>(&'a Error);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = StdError::source(self.0);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
