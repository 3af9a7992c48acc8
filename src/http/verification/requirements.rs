//! What a proxy requires of a client's credential: read from the check's own URL, or for Envoy from
//! headers that Envoy sets. The client can write neither.

use axum::http::{HeaderMap, HeaderName, Uri};
use utoipa::IntoParams;

use crate::error::{Error, Issue, Location, Result};
use crate::model::ValidationError;
use crate::model::named_limits::{LimitName, MAX_UNITS};
use crate::model::verification::RequiredScopes;

/// The headers in which Envoy states what a check requires.
const SCOPE: HeaderName = HeaderName::from_static("x-tenantry-scope");
const COST: HeaderName = HeaderName::from_static("x-tenantry-cost");
const LIMIT: HeaderName = HeaderName::from_static("x-tenantry-limit");
const RESOURCE: HeaderName = HeaderName::from_static("x-tenantry-resource");

/// The query parameters of a check, for the API description.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct CheckParameters {
    /// Required scopes, separated by spaces. If it is repeated, any of the lists is sufficient.
    #[param(example = "docs:read")]
    scope: Option<String>,
    /// The number of requests that the request counts as in the monthly quota, and of the credits
    /// that it takes. Default: 1.
    #[param(minimum = 0, maximum = 1_000_000)]
    cost: Option<i32>,
    /// A named limit that the request counts against, and after a colon how many units it counts
    /// as. Default: 1. It may be repeated.
    #[param(example = "search:5")]
    limit: Option<String>,
    /// The route's template, shown in the list of rejections instead of the path.
    #[param(example = "GET /docs/{id}")]
    resource: Option<String>,
}

/// The headers of a check for Envoy, for the API description.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct CheckHeaders {
    /// Required scopes, separated by spaces. Several lists, of which any is sufficient, are
    /// separated by commas.
    #[param(rename = "X-Tenantry-Scope", example = "docs:read")]
    scope: Option<String>,
    /// The number of requests that the request counts as in the monthly quota, and of the credits
    /// that it takes. Default: 1.
    #[param(rename = "X-Tenantry-Cost", minimum = 0, maximum = 1_000_000)]
    cost: Option<i32>,
    /// Named limits that the request counts against, separated by commas, each with a colon and how
    /// many units it counts as. Default: 1.
    #[param(rename = "X-Tenantry-Limit", example = "search:5")]
    limit: Option<String>,
    /// The route's template, shown in the list of rejections instead of the path.
    #[param(rename = "X-Tenantry-Resource", example = "GET /docs/{id}")]
    resource: Option<String>,
}

/// What a proxy requires of a client's credential.
#[derive(Default)]
pub struct Requirements {
    /// The scopes that are required.
    pub scopes: RequiredScopes,
    /// The number of requests that the client's request counts as in the monthly quota.
    pub cost: Option<u32>,
    /// The named limits that it counts against, and the units that it counts as.
    pub limits: Vec<(LimitName, u32)>,
    /// The template of the route, for the list of rejections.
    pub resource: Option<String>,
}

/// Reads the query of the check's own URL, which the proxy's configuration contains.
pub fn from_query(uri: &Uri) -> Result<Requirements> {
    let (mut required, mut lists, mut issues) = (Requirements::default(), Vec::new(), Vec::new());
    let mut reject = |name: &str, ValidationError(message)| {
        let name: String = name.chars().take(64).collect();
        issues.push(Issue::field(name, message).with_location(Location::Query));
    };
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match &*name {
            "scope" => lists.push(value.into_owned()),
            "cost" if required.cost.is_none() => match parse_cost(&value) {
                Ok(cost) => required.cost = Some(cost),
                Err(why) => reject(&name, why),
            },
            "limit" => match parse_limit(&value) {
                Ok(limit) => required.limits.push(limit),
                Err(why) => reject(&name, why),
            },
            "resource" if required.resource.is_none() => {
                required.resource = Some(value.into_owned());
            }
            "cost" | "resource" => reject(&name, "must not be repeated".into()),
            _ => reject(&name, "is not a query parameter of this route".into()),
        }
    }
    if !lists.is_empty() {
        match parse_scope_lists(lists.iter().map(String::as_str)) {
            Ok(scopes) => required.scopes = scopes,
            Err(why) => reject("scope", why),
        }
    }
    if issues.is_empty() { Ok(required) } else { Err(misconfigured(&issues)) }
}

/// Reads the headers that Envoy adds to a check. A repeated one could be the client's.
pub fn from_headers(headers: &HeaderMap) -> Result<Requirements> {
    let (mut required, mut issues) = (Requirements::default(), Vec::new());
    let mut reject = |name: &HeaderName, ValidationError(message)| {
        issues.push(Issue::field(name.as_str(), message).with_location(Location::Header));
    };
    for name in [SCOPE, COST, LIMIT, RESOURCE] {
        let mut values = headers.get_all(&name).iter();
        let Some(value) = values.next() else { continue };
        let (Ok(text), None) = (value.to_str(), values.next()) else {
            reject(&name, "must be sent once, in ASCII".into());
            continue;
        };
        if name == SCOPE {
            match parse_scope_lists(text.split(',')) {
                Ok(scopes) => required.scopes = scopes,
                Err(why) => reject(&name, why),
            }
        } else if name == COST {
            match parse_cost(text) {
                Ok(cost) => required.cost = Some(cost),
                Err(why) => reject(&name, why),
            }
        } else if name == LIMIT {
            match text.split(',').map(|limit| parse_limit(limit.trim())).collect() {
                Ok(limits) => required.limits = limits,
                Err(why) => reject(&name, why),
            }
        } else {
            required.resource = Some(text.to_owned());
        }
    }
    if issues.is_empty() { Ok(required) } else { Err(misconfigured(&issues)) }
}

/// Logs the problems for the operator. To the proxy's client the check is unavailable: its own
/// request is not wrong.
fn misconfigured(issues: &[Issue]) -> Error {
    for issue in issues {
        let name = issue.path.join(".");
        tracing::error!(name, problem = %issue.message, "a proxy's check is misconfigured");
    }
    Error::unavailable("the proxy's check is misconfigured")
}

fn parse_scope_lists<'a>(
    lists: impl Iterator<Item = &'a str>,
) -> std::result::Result<RequiredScopes, ValidationError> {
    let words = |list: &str| list.split_whitespace().map(str::to_owned).collect();
    RequiredScopes::parse(&lists.map(words).collect::<Vec<Vec<String>>>())
}

fn parse_cost(text: &str) -> std::result::Result<u32, ValidationError> {
    let cost = text.parse().ok().filter(|cost| *cost <= 1_000_000);
    cost.ok_or_else(|| "must be a whole number from 0 to 1000000".into())
}

fn parse_limit(text: &str) -> std::result::Result<(LimitName, u32), ValidationError> {
    let (name, units) = text.split_once(':').unwrap_or((text, "1"));
    let units = units.parse().ok().filter(|units| *units <= MAX_UNITS.unsigned_abs());
    let units = units.ok_or("must be a name, or a name, a colon and 0 to 1000000 units")?;
    Ok((LimitName::parse(name)?, units))
}
