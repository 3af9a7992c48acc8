//! What a proxy requires of a client's credential: read from the check's own URL, or for Envoy from
//! headers that Envoy sets. The client can write neither.

use std::collections::HashMap;

use axum::http::{HeaderMap, HeaderName, Uri};
use utoipa::IntoParams;

use crate::app::App;
use crate::error::{Error, Issue, Result};
use crate::model::ValidationError;
use crate::model::named_limits::{LimitName, MAX_UNITS};
use crate::model::short_lived_token::Audience;
use crate::model::verification::RequiredScopes;

/// The headers in which Envoy states what a check requires.
const SCOPE: HeaderName = HeaderName::from_static("x-tenantry-scope");
const COST: HeaderName = HeaderName::from_static("x-tenantry-cost");
const LIMIT: HeaderName = HeaderName::from_static("x-tenantry-limit");
const RESOURCE: HeaderName = HeaderName::from_static("x-tenantry-resource");
const AUDIENCE: HeaderName = HeaderName::from_static("x-tenantry-token-audience");

/// The query parameters of a check, for the API description.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct CheckParameters {
    /// Required scopes, separated by spaces. If it is repeated, any of the lists is sufficient.
    #[param(example = "docs:read")]
    scope: Option<String>,
    /// How many requests of the organization's monthly quota the request counts as, and how many
    /// credits it takes. Default: 1.
    #[param(minimum = 0, maximum = 1_000_000)]
    cost: Option<i32>,
    /// A named limit that the request counts against, and after a colon how many units it counts
    /// as. Default: 1. It may be repeated.
    #[param(example = "search:5")]
    limit: Option<String>,
    /// The route's template: usage is attributed to it, and the list of rejections shows it instead
    /// of the path.
    #[param(example = "GET /docs/{id}")]
    resource: Option<String>,
    /// `1` to get a short-lived token in `X-Tenantry-Token`. Requires `aud` and `JWT_PRIVATE_KEYS`.
    #[param(example = "1")]
    token: Option<String>,
    /// The service that the token is for, as its `aud`.
    #[param(example = "https://api.example.com")]
    aud: Option<String>,
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
    /// How many requests of the organization's monthly quota the request counts as, and how many
    /// credits it takes. Default: 1.
    #[param(rename = "X-Tenantry-Cost", minimum = 0, maximum = 1_000_000)]
    cost: Option<i32>,
    /// Named limits that the request counts against, separated by commas, each with a colon and how
    /// many units it counts as. Default: 1.
    #[param(rename = "X-Tenantry-Limit", example = "search:5")]
    limit: Option<String>,
    /// The route's template: usage is attributed to it, and the list of rejections shows it instead
    /// of the path.
    #[param(rename = "X-Tenantry-Resource", example = "GET /docs/{id}")]
    resource: Option<String>,
    /// The service that a short-lived token in `X-Tenantry-Token` is for. Without it, there is no
    /// token. Requires `JWT_PRIVATE_KEYS`.
    #[param(rename = "X-Tenantry-Token-Audience", example = "https://api.example.com")]
    audience: Option<String>,
}

/// What a proxy requires of a client's credential.
#[derive(Default)]
pub struct Requirements {
    /// The scopes that are required.
    pub scopes: RequiredScopes,
    /// How many requests of the monthly quota, and how many credits, the client's request costs;
    /// `None` is 1.
    pub cost: Option<u32>,
    /// The named limits that it counts against, and the units that it counts as.
    pub limits: Vec<(LimitName, u32)>,
    /// The template of the route, for usage and the list of rejections.
    pub resource: Option<String>,
    /// The service that a token is for; `None` for a check without a token.
    pub audience: Option<Audience>,
}

impl Requirements {
    /// Requires a key to sign a token with, and an audience that a token can be for, if the proxy
    /// requests a token.
    ///
    /// # Errors
    /// Unavailable otherwise: the proxy or the server is misconfigured.
    pub fn check_token(&self, app: &App) -> Result<()> {
        let Some(audience) = &self.audience else { return Ok(()) };
        if !app.short_lived_tokens.can_sign() {
            return Err(misconfigured(&[Issue::field("token", "requires JWT_PRIVATE_KEYS")]));
        }
        let checked = app.config.oauth.check_audience(audience.as_str());
        checked.map_err(|why| misconfigured(&[Issue::field("aud", why.0)]))
    }
}

/// The requirements read so far, and the problems with them.
#[derive(Default)]
struct Reader {
    required: Requirements,
    issues: Vec<Issue>,
}

impl Reader {
    fn reject(&mut self, name: &str, ValidationError(message): ValidationError) {
        self.issues.push(Issue::field(name.chars().take(64).collect::<String>(), message));
    }

    /// Returns the value, or records its problem and returns the default.
    fn read<T: Default>(
        &mut self,
        name: &str,
        parsed: std::result::Result<T, ValidationError>,
    ) -> T {
        parsed.unwrap_or_else(|why| {
            self.reject(name, why);
            T::default()
        })
    }

    /// Adds limits, each of which may be named once.
    fn add_limits(&mut self, field: &str, limits: impl IntoIterator<Item = (LimitName, u32)>) {
        for (name, units) in limits {
            if self.required.limits.iter().any(|(known, _)| *known == name) {
                self.reject(field, "must not name a limit twice".into());
            } else {
                self.required.limits.push((name, units));
            }
        }
    }

    fn finish(self) -> Result<Requirements> {
        if self.issues.is_empty() { Ok(self.required) } else { Err(misconfigured(&self.issues)) }
    }
}

/// Reads the query of the check's own URL, which the proxy's configuration contains.
pub fn from_query(uri: &Uri) -> Result<Requirements> {
    let (mut reader, mut lists, mut sent) = (Reader::default(), Vec::new(), HashMap::new());
    for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match &*name {
            "scope" => lists.push(value.into_owned()),
            "limit" => {
                let limit = parse_limit(&value).map(Some);
                let limit = reader.read(&name, limit);
                reader.add_limits(&name, limit);
            }
            "cost" | "resource" | "token" | "aud" => {
                if sent.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                    reader.reject(&name, "must not be repeated".into());
                }
            }
            _ => reader.reject(&name, "is not a query parameter of this route".into()),
        }
    }
    let sent = |name| sent.get(name).map(String::as_str);
    if !lists.is_empty() {
        let scopes = parse_scope_lists(lists.iter().map(String::as_str));
        reader.required.scopes = reader.read("scope", scopes);
    }
    reader.required.cost = reader.read("cost", sent("cost").map(parse_cost).transpose());
    reader.required.resource = sent("resource").map(str::to_owned);
    match (sent("token"), sent("aud")) {
        (None, None) => {}
        (Some("1"), Some(audience)) => {
            let audience = Audience::parse(audience).map(Some);
            reader.required.audience = reader.read("aud", audience);
        }
        (Some("1"), None) => reader.reject("aud", "is required with token=1".into()),
        (_, _) => reader.reject("token", "must be 1, or be left out together with aud".into()),
    }
    reader.finish()
}

/// Reads the headers that Envoy adds to a check. Rejects repeated ones: one could be the client's.
pub fn from_headers(headers: &HeaderMap) -> Result<Requirements> {
    let mut reader = Reader::default();
    for name in [SCOPE, COST, LIMIT, RESOURCE, AUDIENCE] {
        let mut values = headers.get_all(&name).iter();
        let Some(value) = values.next() else { continue };
        let (Ok(text), None) = (value.to_str(), values.next()) else {
            reader.reject(name.as_str(), "must be sent once, in ASCII".into());
            continue;
        };
        if name == SCOPE {
            let scopes = parse_scope_lists(text.split(','));
            reader.required.scopes = reader.read(name.as_str(), scopes);
        } else if name == COST {
            reader.required.cost = reader.read(name.as_str(), parse_cost(text).map(Some));
        } else if name == LIMIT {
            let limits = text.split(',').map(|limit| parse_limit(limit.trim())).collect();
            let limits: Vec<_> = reader.read(name.as_str(), limits);
            reader.add_limits(name.as_str(), limits);
        } else if name == AUDIENCE {
            let audience = Audience::parse(text).map(Some);
            reader.required.audience = reader.read(name.as_str(), audience);
        } else {
            reader.required.resource = Some(text.to_owned());
        }
    }
    reader.finish()
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
