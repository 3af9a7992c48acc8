//! Reads the parameters of a query string, noting everything that is wrong with them.
//!
//! What a route knows is what its description names. A parameter that it does not know is refused
//! once the request's credential was found good: ignored, it could be one that the caller relies
//! on, such as a scope to check for.

use std::collections::{HashMap, HashSet};

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{Extensions, Method};
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

use crate::app::App;
use crate::error::{Error, Issue, Location, Result};
use crate::http::family::Family;
use crate::model::ValidationError;

/// The longest reason for a change.
const MAX_REASON_CHARS: usize = 256;

/// How much of a parameter's name is repeated to its caller.
const MAX_NAME_CHARS: usize = 64;

/// The query parameters of the families' routes, by method and path.
///
/// Routes outside the families are not here, and neither are the pages that mailed links lead to:
/// load balancers and mail clients append parameters of their own.
#[derive(Default)]
pub struct KnownParameters(HashMap<String, Vec<(Method, HashSet<String>)>>);

impl KnownParameters {
    /// What the description names.
    #[must_use]
    pub fn from_document(document: &OpenApi) -> Self {
        let paths = document
            .paths
            .paths
            .iter()
            .filter(|(path, _)| Family::from_path(path) != Family::Other);
        let known = paths.map(|(path, item)| {
            let operations = [
                (Method::GET, &item.get),
                (Method::POST, &item.post),
                (Method::PUT, &item.put),
                (Method::PATCH, &item.patch),
                (Method::DELETE, &item.delete),
            ];
            let operations = operations.into_iter().filter_map(|(method, operation)| {
                let operation = operation.as_ref().filter(|operation| !is_html_page(operation))?;
                Some((method, parameters_of(operation)))
            });
            (path.clone(), operations.collect())
        });
        Self(known.collect())
    }

    /// Leaves the parameters of a request that its route does not know for [`require_known`].
    pub fn record_unknown(&self, request: &mut Request, route: &str) {
        let Some(query) = request.uri().query() else { return };
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let operation = self.0.get(route).and_then(|it| it.iter().find(|(it, _)| it == method));
        let Some((_, known)) = operation else { return };
        let mut seen = HashSet::new();
        let names = url::form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
        let unknown = names.filter(|name| !known.contains(&**name) && seen.insert(name.clone()));
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

/// Whether it answers with a page for people.
fn is_html_page(operation: &Operation) -> bool {
    let answers = operation.responses.responses.values().filter_map(inline);
    answers.flat_map(|answer| answer.content.keys()).any(|kind| kind.starts_with("text/html"))
}

fn parameters_of(operation: &Operation) -> HashSet<String> {
    let parameters = operation.parameters.iter().flatten().filter_map(inline);
    let in_query = parameters.filter(|it| matches!(it.parameter_in, ParameterIn::Query));
    in_query.map(|parameter| parameter.name.clone()).collect()
}

/// What is described in place.
fn inline<T>(it: &RefOr<T>) -> Option<&T> {
    match it {
        RefOr::T(it) => Some(it),
        RefOr::Ref(_) => None,
    }
}

/// The parameters that a request brings and its route does not know.
#[derive(Clone)]
struct UnknownParameters(Vec<Issue>);

/// Passes a request whose parameters its route knows. Guards ask for it last.
///
/// # Errors
/// Malformed, naming each of the others.
pub fn require_known(extensions: &Extensions) -> Result<()> {
    match extensions.get::<UnknownParameters>() {
        None => Ok(()),
        Some(UnknownParameters(issues)) => {
            let message = "The request has query parameters that this route does not know";
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
    /// The parameter `name` as `parse` reads it; `None` where it is not there, empty or refused.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, ValidationError>,
    ) -> Option<T> {
        let mut values = self.pairs.iter().filter(|(found, _)| found == name);
        let (_, value) = values.next()?;
        let parsed = if values.next().is_some() {
            Err("is there more than once".into())
        } else if value.is_empty() {
            return None;
        } else {
            parse(value)
        };
        let issue = |why| Issue::field(name, why).with_location(Location::Query);
        parsed.map_err(|ValidationError(why)| self.issues.push(issue(why))).ok()
    }

    /// The same, where it has to be there.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, ValidationError>,
    ) -> Option<T> {
        if !self.pairs.iter().any(|(found, value)| found == name && !value.is_empty()) {
            self.issues.push(Issue::field(name, "is required").with_location(Location::Query));
        }
        self.optional(name, parse)
    }

    /// The parameter `name`, which takes the words `allowed`.
    pub fn choice<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
        allowed: fn() -> Vec<&'static str>,
    ) -> Option<T> {
        let before = self.issues.len();
        let found = self.optional(name, |text| parse(text).ok_or_else(|| "is unknown".into()));
        if let Some(issue) = self.issues.get_mut(before) {
            *issue = Issue::one_of(name, allowed()).with_location(Location::Query);
        }
        found
    }

    /// Fails where any issue was met.
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

/// Reads a whole number within bounds: digits, and nothing else.
///
/// # Errors
/// For any other text.
pub fn parse_integer(text: &str, least: i64, most: i64) -> Result<i64, ValidationError> {
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|text| text.parse().ok());
    let number = number.filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("must be a number from {least} to {most}").into())
}

/// Reads `true` or `false`.
///
/// # Errors
/// For any other text.
pub fn parse_bool(text: &str) -> Result<bool, ValidationError> {
    text.parse().map_err(|_| "must be true or false".into())
}

/// Reads why something is done.
///
/// # Errors
/// For more than 256 characters, or control characters.
pub fn parse_reason(text: &str) -> Result<String, ValidationError> {
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".into());
    }
    if text.chars().count() > MAX_REASON_CHARS {
        return Err(format!("must be at most {MAX_REASON_CHARS} characters long").into());
    }
    Ok(text.to_owned())
}
