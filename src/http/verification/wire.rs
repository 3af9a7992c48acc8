//! The requests of the JSON routes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use utoipa::ToSchema;

use crate::domain::verification::CheckRequest;
use crate::http::body::{Fields, FromFields, JsonNode, text};
use crate::model::ValidationError;
use crate::model::attribution::{Attribution, MAX_RESOURCE_CHARS, Tags};
use crate::model::named_limits::{LimitName, MAX_LIMITS, MAX_UNITS};
use crate::model::secret::Secret;
use crate::model::verification::RequiredScopes;

/// The longest text of a credential, in bytes.
const MAX_KEY_LENGTH: usize = 512;
/// The most units that one check costs.
const MAX_COST: i32 = 1_000_000;

/// A check of one credential.
#[derive(ToSchema)]
#[schema(as = verification::Check, examples(json!({
    "key": "tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz",
    "scopes": [["docs:read"], ["docs:write", "admin:all"]],
    "client": { "ip": "203.0.113.9" },
})))]
pub struct VerifyRequest {
    /// The text that the client presented: an organization's key, a personal access token or an
    /// OAuth access token.
    #[schema(value_type = String, min_length = 1, max_length = 512,
             examples("tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    key: Secret,
    /// The scopes that the request requires: all scopes of any of these lists. Default: none.
    #[schema(value_type = Option<Vec<Vec<String>>>, max_items = 16)]
    scopes: Option<RequiredScopes>,
    /// How many requests of the organization's monthly quota this one counts as, and how many
    /// credits it takes. Default: 1.
    #[schema(value_type = Option<i32>, minimum = 0, maximum = 1_000_000, examples(1))]
    cost: Option<i32>,
    /// Named limits of the key or its organization that the request counts against, in addition to
    /// those that every request counts against. A limit that neither has is ignored.
    #[schema(value_type = Option<Vec<NamedUnits>>, max_items = 10)]
    limits: Option<Vec<NamedUnits>>,
    /// The template of the route that the client called, for usage and the list of rejections.
    #[schema(value_type = Option<String>, max_length = 128, examples("GET /docs/{id}"))]
    resource: Option<String>,
    /// What else usage is attributed to: at most 8 of `name=value`.
    #[schema(value_type = Option<Vec<String>>, max_items = 8, examples("region=eu"))]
    tags: Option<Tags>,
    /// What the verifier knows of the client.
    client: Option<CheckedClient>,
    /// Whether to count and record nothing. Default: false.
    #[schema(value_type = Option<bool>)]
    dry_run: Option<bool>,
}

/// A named limit, and how many units the request counts as.
#[derive(ToSchema)]
#[schema(as = verification::NamedUnits)]
pub struct NamedUnits {
    /// The limit's name.
    #[schema(value_type = String, examples("search"))]
    name: LimitName,
    /// How many units the request counts as. Default: 1.
    #[schema(value_type = Option<i32>, minimum = 0, maximum = 1_000_000, examples(5))]
    cost: Option<i32>,
}

impl FromFields for NamedUnits {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name", text(LimitName::parse));
        let cost = fields.optional("cost", |node| node.into_integer(0..=MAX_UNITS));
        Some(Self { name: name?, cost })
    }
}

/// What the verifier knows of the client.
#[derive(ToSchema)]
#[schema(as = verification::Client)]
pub struct CheckedClient {
    /// Its address. A key with allowed addresses is rejected without it.
    #[schema(value_type = Option<String>, examples("203.0.113.9"))]
    ip: Option<IpAddr>,
    /// The `Origin` header that it sent.
    #[schema(value_type = Option<String>, max_length = 256, examples("https://app.example.com"))]
    origin: Option<String>,
}

impl FromFields for VerifyRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let key = fields.required("key", parse_key);
        let scopes = fields.optional("scopes", parse_scopes);
        let cost = fields.optional("cost", |node| node.into_integer(0..=MAX_COST));
        let limits = take_named_units(fields);
        let resource = fields.optional("resource", text(|it| visible(it, MAX_RESOURCE_CHARS)));
        let tags = fields.optional("tags", |node| Tags::parse(&node.into_strings()?));
        let client = fields.optional_object("client");
        let dry_run = fields.optional("dry_run", JsonNode::into_bool);
        Some(Self { key: key?, scopes, cost, limits, resource, tags, client, dry_run })
    }
}

impl FromFields for CheckedClient {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let ip = fields.optional("ip", text(parse_address));
        let origin = fields.optional("origin", text(|it| visible(it, 256)));
        Some(Self { ip, origin })
    }
}

impl CheckedClient {
    /// Returns the address and the origin of the client, as far as the request states them.
    pub fn into_parts(client: Option<Self>) -> (Option<IpAddr>, Option<String>) {
        client.map_or((None, None), |client| (client.ip, client.origin))
    }
}

impl VerifyRequest {
    /// Returns the credential's text and the check of it.
    pub fn into_check(self) -> (Secret, CheckRequest) {
        let Self { key, scopes, cost, limits, resource, tags, client, dry_run } = self;
        let units = |cost: Option<i32>| cost.map_or(1, i32::unsigned_abs);
        let (client_address, client_origin) = CheckedClient::into_parts(client);
        let check = CheckRequest {
            scopes: scopes.unwrap_or_default(),
            cost: units(cost),
            limits: limits
                .into_iter()
                .flatten()
                .map(|limit| (limit.name, units(limit.cost)))
                .collect(),
            attribution: attribution(resource.as_deref(), tags),
            client_address,
            client_origin,
            is_dry_run: dry_run.unwrap_or(false),
            method_and_path: ("POST".into(), resource.map_or("/v1/verify".into(), Cow::from)),
        };
        (key, check)
    }
}

/// Several checks.
#[derive(ToSchema)]
#[schema(as = verification::Checks)]
pub struct VerifyBatchRequest {
    /// 1 to 100 checks.
    #[schema(min_items = 1, max_items = 100)]
    pub items: Vec<VerifyRequest>,
}

impl FromFields for VerifyBatchRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { items: fields.required_objects("items", 1..=100)? })
    }
}

/// Returns the attribution of a check. Most have none, and share it.
fn attribution(resource: Option<&str>, tags: Option<Tags>) -> Arc<Attribution> {
    static NONE: LazyLock<Arc<Attribution>> = LazyLock::new(Arc::default);
    if resource.is_none() && tags.is_none() {
        return Arc::clone(&NONE);
    }
    let resource = resource.unwrap_or_default().to_owned();
    Arc::new(Attribution { resource, tags: tags.unwrap_or_default() })
}

fn take_named_units(fields: &mut Fields<'_>) -> Option<Vec<NamedUnits>> {
    let limits: Vec<NamedUnits> = fields.optional_objects("limits", 0..=MAX_LIMITS)?;
    let names: HashSet<_> = limits.iter().map(|limit| &limit.name).collect();
    if names.len() < limits.len() {
        fields.add_issue("limits", "must not name a limit twice".into());
    }
    Some(limits)
}

/// Parses the text of a credential.
pub fn parse_key(node: JsonNode) -> Result<Secret, ValidationError> {
    match node.into_string()? {
        text if text.is_empty() => Err("must not be empty".into()),
        text if text.len() > MAX_KEY_LENGTH => {
            Err(format!("must be at most {MAX_KEY_LENGTH} bytes long").into())
        }
        text => Ok(Secret::new(text)),
    }
}

fn parse_scopes(node: JsonNode) -> Result<RequiredScopes, ValidationError> {
    let JsonNode::Array(lists) = node else {
        return Err("must be a list of lists of scopes".into());
    };
    let lists: Result<Vec<_>, _> = lists.into_iter().map(JsonNode::into_strings).collect();
    RequiredScopes::parse(&lists.map_err(|_| "must be a list of lists of scopes")?)
}

fn parse_address(text: &str) -> Result<IpAddr, ValidationError> {
    let address: IpAddr = text.parse().map_err(|_| "must be an IPv4 or IPv6 address")?;
    Ok(address.to_canonical())
}

/// Parses a text of 1 to `max` characters without control characters.
pub fn visible(text: &str, max: usize) -> Result<String, ValidationError> {
    if text.is_empty() || text.chars().count() > max {
        return Err(format!("must be 1 to {max} characters long").into());
    }
    if text.contains(char::is_control) {
        return Err("must not contain control characters".into());
    }
    Ok(text.to_owned())
}
