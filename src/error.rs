//! The one error of the crate: what went wrong, in words the caller may read, and a private
//! source that only the log sees.
//!
//! It knows nothing of HTTP. Each family of routes turns a [`ErrorKind`] into its own status, word
//! and body (`http::dialect`), in a `match` without a wildcard: a new kind stops the build until
//! every family has an answer for it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// How many issues one failure lists. A small body can break a rule thousands of times, and a
/// response must not be many times the size of its request.
const MAX_ISSUES: usize = 50;

/// A result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every kind of failure a caller can meet (contract §1, "Every kind of failure").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was sent can not be read at all: broken JSON, two credentials at once.
    Malformed,
    /// It can be read, and a field breaks a rule; the issues name every one.
    Invalid,
    /// No credential, or one that is not good (any longer).
    Unauthenticated(AuthFailure),
    /// A good credential that lacks scopes; these are missing.
    MissingScopes(Vec<String>),
    /// A good credential whose person lacks the role.
    MissingRole(String),
    /// A good credential that may not do this.
    Forbidden,
    /// The right password of an account whose address is not verified, where it has to be.
    EmailNotVerified,
    /// The credential's organization is suspended.
    OrganizationSuspended,
    /// The plan allows no more of this resource.
    PlanLimit {
        /// What there may be no more of, for example `keys`.
        resource: &'static str,
        /// How many there may be.
        limit: u64,
        /// How many there are.
        used: u64,
    },
    /// There is no such thing, as far as this caller may know.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The change collides with what is there.
    Conflict,
    /// An account has this e-mail address already.
    EmailTaken,
    /// The idempotency key was used for another request.
    IdempotencyKeyReused,
    /// The first request with this idempotency key is still running.
    IdempotencyKeyInUse,
    /// The body is larger than the route takes.
    TooLarge,
    /// The body is of another type than the route takes.
    UnsupportedMediaType,
    /// Too many requests for now.
    RateLimited,
    /// The plan's monthly requests are spent.
    QuotaExceeded {
        /// What is spent, for example `requests`.
        resource: &'static str,
        /// How many the plan holds.
        limit: u64,
        /// How many were used.
        used: u64,
    },
    /// A defect of ours.
    Internal,
    /// Another service we depend on failed.
    Upstream,
    /// We can not answer just now: the database is away, or time ran out.
    Unavailable,
}

/// What was shown to prove who is calling, and did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFailure {
    /// Nothing.
    MissingCredential,
    /// A key.
    InvalidKey,
    /// An access token, a session's cookie, or the token of a mailed link.
    InvalidToken,
    /// An e-mail address and a password.
    InvalidPassword,
    /// The right password of an account that is not active.
    InactiveAccount,
}

/// Where in a request a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// In the body.
    Body,
    /// In the query string.
    Query,
    /// In a header.
    Header,
}

/// One broken field: where it is and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Where it is.
    pub location: Location,
    /// The way to the field from the top of the body; empty for the body itself.
    pub path: Vec<String>,
    /// What the caller has to change.
    pub message: Cow<'static, str>,
    /// The words that are taken there, where they are a list.
    pub allowed: Vec<&'static str>,
}

impl Issue {
    /// An issue of the field `name` at the top of the body.
    pub fn field(name: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        let path = vec![name.into()];
        Self { location: Location::Body, path, message: message.into(), allowed: Vec::new() }
    }

    /// An issue of the body as a whole.
    pub fn body(message: impl Into<Cow<'static, str>>) -> Self {
        let (path, allowed) = (Vec::new(), Vec::new());
        Self { location: Location::Body, path, message: message.into(), allowed }
    }

    /// An issue of a field that takes one of these words.
    pub fn one_of(name: impl Into<String>, allowed: Vec<&'static str>) -> Self {
        let message = format!("must be one of {}", allowed.join(", "));
        Self { allowed, ..Self::field(name, message) }
    }

    /// The same issue, of a field elsewhere.
    #[must_use]
    pub fn with_location(mut self, location: Location) -> Self {
        self.location = location;
        self
    }
}

/// A failure. `Display` is the public message and never contains the source.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    issues: Vec<Issue>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A failure of this kind, with a message for the caller.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), issues: Vec::new(), retry_after: None, source: None }
    }

    /// What was sent can not be read.
    pub fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Malformed, message)
    }

    /// Fields break rules: all of them, in the order of the body.
    #[must_use]
    pub fn invalid(issues: Vec<Issue>) -> Self {
        Self::new(ErrorKind::Invalid, "The request is not valid").with_issues(issues)
    }

    /// No credential, or not a good one.
    pub fn unauthenticated(proof: AuthFailure, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unauthenticated(proof), message)
    }

    /// A good credential that may not do this.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Forbidden, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// The change collides with what is there.
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// A defect of ours; the caller learns that and no more.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Internal, "Something went wrong on our side").with_source(source)
    }

    /// We can not answer just now; worth another try after a second.
    pub fn unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Unavailable, "The service is unavailable for the moment; try again")
            .with_retry_after(Duration::from_secs(1))
            .with_source(source)
    }

    /// Adds which fields it is about: the first 50, then how many more there are.
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

    /// Adds what the log, and only the log, is to see.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds when another try makes sense.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Which kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// What the caller may read.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Every broken field.
    #[must_use]
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }

    /// What led to the failure, all of it, for the log.
    #[must_use]
    pub fn cause(&self) -> Cause<'_> {
        Cause(self)
    }

    /// Whole seconds until another try makes sense, at least 1.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after
            .map(|after| after.as_secs() + u64::from(after.subsec_nanos() > 0))
            .map(|seconds| seconds.max(1))
    }
}

/// A failure and all that led to it, in one line.
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
