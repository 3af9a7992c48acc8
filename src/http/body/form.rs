//! Reads a form body (`application/x-www-form-urlencoded`), as the routes under `/oauth2/` do.
//! Parameters that a route does not know are ignored (RFC 6749 §3.1).

use std::collections::HashSet;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};

use super::{MAX_BODY_BYTES, read_body, require_media_type};
use crate::app::App;
use crate::error::{Error, Issue, Result};
use crate::model::oauth::authorization_request::RequestParameters;

/// The parameter that a request may repeat (RFC 8707 §2).
const REPEATABLE: &str = "resource";

/// The parameters of a form body, each sent at most once.
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Parses a body. A parameter without a value counts as one that was not sent.
    ///
    /// # Errors
    /// Invalid if a parameter is repeated, with the issue of each.
    fn parse(body: &[u8]) -> Result<Self> {
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(body).into_owned().collect();
        let (mut names, mut listed, mut repeated) = (HashSet::new(), HashSet::new(), Vec::new());
        for (name, _) in pairs.iter().filter(|(name, _)| name != REPEATABLE) {
            if !names.insert(name) && listed.insert(name) {
                repeated.push(name);
            }
        }
        if !repeated.is_empty() {
            let issue = |name: &String| {
                let name: String = name.chars().take(64).collect();
                Issue::field(name, "must not be repeated")
            };
            return Err(Error::invalid(repeated.into_iter().map(issue).collect()));
        }
        Ok(Self(pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect()))
    }

    /// Returns the value of an optional parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Returns every value of a parameter that may be repeated.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.0.iter().filter(move |(other, _)| other == name);
        named.map(|(_, value)| value.as_str())
    }

    /// Returns the parameters for the parser of authorization requests.
    #[must_use]
    pub fn into_parameters(self) -> RequestParameters {
        RequestParameters::new(self.0)
    }

    /// Returns the value of a required parameter.
    ///
    /// # Errors
    /// Invalid without it.
    pub fn require(&self, name: &'static str) -> Result<&str> {
        let missing = || Error::invalid(vec![Issue::field(name, "is required")]);
        self.get(name).ok_or_else(missing)
    }
}

impl FromRequest<App> for Form {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        Self::parse(&read_form(request, app).await?)
    }
}

/// The parameters of a form body as they were sent, for a route that reports repeated ones itself.
pub struct FormPairs(pub Vec<(String, String)>);

impl FromRequest<App> for FormPairs {
    type Rejection = Error;

    async fn from_request(request: Request, app: &App) -> Result<Self> {
        let body = read_form(request, app).await?;
        Ok(Self(url::form_urlencoded::parse(&body).into_owned().collect()))
    }
}

async fn read_form(request: Request, app: &App) -> Result<Bytes> {
    if axum::body::HttpBody::is_end_stream(request.body()) {
        return Ok(Bytes::new());
    }
    require_media_type(request.headers(), &mime::APPLICATION_WWW_FORM_URLENCODED)?;
    read_body(app, request, MAX_BODY_BYTES).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_empty_parameters_are_ignored_and_repeated_ones_are_rejected() {
        let required =
            |body: &str| Form::parse(body.as_bytes())?.require("token").map(str::to_owned);
        assert_eq!(required("a=b&token=x%20y&hint").expect("a token"), "x y");
        assert_eq!(required("token=x&resource=a&resource=b").expect("a token"), "x");
        for body in [
            "",
            "token",
            "token=",
            "Token=x",
            "token=x&token=x",
            "token=x&token=",
            "token=x&other=1&other=2",
        ] {
            let error = required(body).expect_err("a problem");
            assert_eq!(error.issues().len(), 1, "{body}");
        }
    }
}
