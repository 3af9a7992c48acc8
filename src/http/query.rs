//! Parses the parameters of a query string, and collects all issues with them.
//!
//! The known parameters of a route are those of its API description. An unknown parameter is
//! rejected after the request's credential was verified. It is not ignored, because the caller
//! could rely on it, for example on a scope to check for.

use std::collections::HashSet;

use axum::extract::{FromRequestParts, Request};
use axum::http::Extensions;
use axum::http::request::Parts;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Operation, ParameterIn};

use crate::app::App;
use crate::error::{Error, Issue, Location, Result};
use crate::model::ValidationError;

/// The maximum length of the reason for a change.
const MAX_REASON_CHARS: usize = 256;

/// The maximum number of characters of an unknown parameter's name in an issue.
const MAX_NAME_CHARS: usize = 64;

/// The query parameters that a route knows: those of its API description.
#[derive(Clone)]
pub struct KnownParameters(HashSet<String>);

impl KnownParameters {
    /// Returns the parameters of a described route; `None` for one that responds with an HTML page,
    /// because mail clients append parameters to the URLs of such pages.
    #[must_use]
    pub fn of(operation: &Operation) -> Option<Self> {
        (!is_html_page(operation)).then(|| Self(parameters_of(operation)))
    }

    /// Records the unknown parameters of a request in its extensions, for [`require_known`].
    pub fn record_unknown(&self, request: &mut Request) {
        let Some(query) = request.uri().query() else { return };
        let mut seen = HashSet::new();
        let names = url::form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
        let unknown = names.filter(|name| !self.0.contains(&**name) && seen.insert(name.clone()));
        let issues = unknown.map(|name| {
            let name: String = name.chars().take(MAX_NAME_CHARS).collect();
            Issue::field(name, "is not a query parameter of this route")
                .with_location(Location::Query)
        });
        let issues: Vec<Issue> = issues.collect();
        if !issues.is_empty() {
            request.extensions_mut().insert(UnknownParameters(issues));
        }
    }
}

/// Returns whether the operation responds with an HTML page.
fn is_html_page(operation: &Operation) -> bool {
    let responses = operation.responses.responses.values().filter_map(inline);
    responses.flat_map(|response| response.content.keys()).any(|kind| kind.starts_with("text/html"))
}

fn parameters_of(operation: &Operation) -> HashSet<String> {
    let parameters = operation.parameters.iter().flatten().filter_map(inline);
    let in_query = parameters.filter(|it| matches!(it.parameter_in, ParameterIn::Query));
    in_query.map(|parameter| parameter.name.clone()).collect()
}

/// Returns a value that is described in place, not by reference.
fn inline<T>(it: &RefOr<T>) -> Option<&T> {
    match it {
        RefOr::T(it) => Some(it),
        RefOr::Ref(_) => None,
    }
}

/// The issues of the unknown parameters of a request.
#[derive(Clone)]
struct UnknownParameters(Vec<Issue>);

/// Rejects a request with unknown parameters. Guards must call it after verifying the credential.
///
/// # Errors
/// Malformed, with an issue for each unknown parameter.
pub fn require_known(extensions: &Extensions) -> Result<()> {
    match extensions.get::<UnknownParameters>() {
        None => Ok(()),
        Some(UnknownParameters(issues)) => {
            let message = "Request has unknown query parameters";
            Err(Error::malformed(message).with_issues(issues.clone()))
        }
    }
}

/// The parameters of a query string.
pub struct Query {
    pairs: Vec<(String, String)>,
    issues: Vec<Issue>,
}

impl Query {
    /// Returns whether the parameter `name` is sent, even if it is empty.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(parameter, _)| parameter == name)
    }

    /// Parses the parameter `name`. Returns `None` if it is absent, empty or invalid.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, ValidationError>,
    ) -> Option<T> {
        let mut values = self.pairs.iter().filter(|(parameter, _)| parameter == name);
        let (_, value) = values.next()?;
        let parsed = if values.next().is_some() {
            Err("must not be repeated".into())
        } else if value.is_empty() {
            return None;
        } else {
            parse(value)
        };
        let issue = |why| Issue::field(name, why).with_location(Location::Query);
        parsed.map_err(|ValidationError(why)| self.issues.push(issue(why))).ok()
    }

    /// Parses the required parameter `name`. Records an issue if it is absent or empty.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, ValidationError>,
    ) -> Option<T> {
        if !self.pairs.iter().any(|(parameter, value)| parameter == name && !value.is_empty()) {
            self.issues.push(Issue::field(name, "is required").with_location(Location::Query));
        }
        self.optional(name, parse)
    }

    /// Parses the optional parameter `name`, whose value must be one of `allowed`.
    pub fn choice<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
        allowed: fn() -> Vec<&'static str>,
    ) -> Option<T> {
        let before = self.issues.len();
        let value = self.optional(name, |text| parse(text).ok_or_else(|| "is unknown".into()));
        if let Some(issue) = self.issues.get_mut(before) {
            *issue = Issue::one_of(name, allowed()).with_location(Location::Query);
        }
        value
    }

    /// Checks that all parameters were valid.
    ///
    /// # Errors
    /// Invalid, with every issue.
    pub fn finish(self) -> Result<()> {
        if self.issues.is_empty() { Ok(()) } else { Err(Error::invalid(self.issues)) }
    }
}

impl FromRequestParts<App> for Query {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self> {
        let query = parts.uri.query().unwrap_or_default().as_bytes();
        let pairs = url::form_urlencoded::parse(query).into_owned().collect();
        Ok(Self { pairs, issues: Vec::new() })
    }
}

/// Parses a whole number from `min` to `max` that consists of digits only.
///
/// # Errors
/// If the text is anything else.
pub fn parse_integer(text: &str, min: i64, max: i64) -> Result<i64, ValidationError> {
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|text| text.parse().ok());
    let number = number.filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("must be a number from {min} to {max}").into())
}

/// Parses `true` or `false`.
///
/// # Errors
/// If the text is anything else.
pub fn parse_bool(text: &str) -> Result<bool, ValidationError> {
    text.parse().map_err(|_| "must be true or false".into())
}

/// Parses the reason for a change.
///
/// # Errors
/// If the text has more than 256 characters, or control characters.
pub fn parse_reason(text: &str) -> Result<String, ValidationError> {
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".into());
    }
    if text.chars().count() > MAX_REASON_CHARS {
        return Err(format!("must be at most {MAX_REASON_CHARS} characters long").into());
    }
    Ok(text.to_owned())
}
