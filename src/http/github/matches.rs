//! Parses the matches of GitHub's secret scanning. Their form is defined by GitHub, so unknown
//! fields are ignored; a field that is needed and missing is reported.

use serde_json::Value;
use url::Url;

use crate::domain::leaks::GithubMatch;
use crate::error::{Error, Issue, Result};
use crate::model::secret::Secret;

/// The maximum number of characters of a type.
const MAX_TYPE_CHARS: usize = 256;
/// The maximum number of characters of a URL. A longer one is ignored.
const MAX_URL_CHARS: usize = 2_048;
/// The maximum number of bytes of a source. A longer one is ignored.
const MAX_SOURCE_BYTES: usize = 64;

/// Parses all matches of a body.
///
/// # Errors
/// Invalid, with every field that is missing or wrong.
pub fn parse_matches(body: Value) -> Result<Vec<GithubMatch>> {
    let Value::Array(items) = body else {
        return Err(Error::invalid(vec![Issue::body("Request body must be a JSON array")]));
    };
    let mut issues = Vec::new();
    let matches: Vec<_> = items
        .into_iter()
        .enumerate()
        .filter_map(|(index, item)| parse_match(index, item, &mut issues))
        .collect();
    if issues.is_empty() { Ok(matches) } else { Err(Error::invalid(issues)) }
}

fn parse_match(index: usize, mut item: Value, issues: &mut Vec<Issue>) -> Option<GithubMatch> {
    let mut required = |name: &str| {
        let text = match item.get_mut(name).map(Value::take) {
            Some(Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        if text.is_none() {
            let path = vec![index.to_string(), name.to_owned()];
            issues.push(Issue { path, ..Issue::body("must be a string that is not empty") });
        }
        text
    };
    let (token, token_type) = (required("token").map(Secret::new), required("type"));
    let (token, token_type) = (token?, token_type?);
    if token_type.chars().count() > MAX_TYPE_CHARS {
        let message = format!("must be at most {MAX_TYPE_CHARS} characters long");
        let path = vec![index.to_string(), "type".to_owned()];
        issues.push(Issue { path, ..Issue::body(message) });
        return None;
    }
    let url = item["url"].as_str().filter(|url| url.chars().count() <= MAX_URL_CHARS);
    let url = url.and_then(|url| Url::parse(url).ok());
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
    let found_in = item["source"].as_str().filter(|source| {
        source.len() <= MAX_SOURCE_BYTES && source.bytes().all(|byte| byte.is_ascii_graphic())
    });
    let found_in = found_in.map(str::to_owned);
    Some(GithubMatch { token, token_type, url, found_in })
}
