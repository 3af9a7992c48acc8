//! Reads the parameters of a query string, noting everything that is wrong with them.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::app::App;
use crate::error::{Error, Issue, Location, Result};
use crate::model::Invalid;

/// The longest reason for a change.
const REASON: usize = 256;

/// The parameters of a query string. Those that a route does not know are none of its business.
pub struct Query {
    pairs: Vec<(String, String)>,
    issues: Vec<Issue>,
}

impl Query {
    /// The parameter `name` as `parse` reads it; `None` where it is not there, empty or refused.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
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
        let issue = |why| Issue::of(name, why).at(Location::Query);
        parsed.map_err(|Invalid(why)| self.issues.push(issue(why))).ok()
    }

    /// The same, where it has to be there.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        if !self.pairs.iter().any(|(found, value)| found == name && !value.is_empty()) {
            self.issues.push(Issue::of(name, "is required").at(Location::Query));
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
            *issue = Issue::of_choice(name, allowed()).at(Location::Query);
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
pub fn number(text: &str, least: i64, most: i64) -> Result<i64, Invalid> {
    let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|text| text.parse().ok());
    let number = number.filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("must be a number from {least} to {most}").into())
}

/// Reads `true` or `false`.
///
/// # Errors
/// For any other text.
pub fn boolean(text: &str) -> Result<bool, Invalid> {
    text.parse().map_err(|_| "must be true or false".into())
}

/// Reads why something is done.
///
/// # Errors
/// For more than 256 characters, or control characters.
pub fn reason(text: &str) -> Result<String, Invalid> {
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".into());
    }
    if text.chars().count() > REASON {
        return Err(format!("must be at most {REASON} characters long").into());
    }
    Ok(text.to_owned())
}
