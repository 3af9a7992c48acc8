//! Limits and credits of keys and organizations, as the requests and responses of several families
//! contain them.

use serde::Serialize;
use utoipa::ToSchema;

use crate::http::body::{Fields, FromFields, JsonNode, text};
use crate::model::ValidationError;
use crate::model::credits::{self, CreditChange, MAX_CREDITS, RefillInterval};
use crate::model::named_limits::{
    LimitName, MAX_LIMITS, MAX_UNITS, MAX_WINDOW, NamedLimit, NamedLimits,
};

/// A named rate limit, which checks of a credential (`/v1/verify`) count against.
#[derive(Serialize, ToSchema)]
#[schema(as = shared::Limit, examples(json!({
    "name": "search", "limit": 100, "window_s": 60, "always": false,
})))]
pub struct NamedRateLimit {
    /// Its name: 1 to 64 ASCII letters, digits, `-`, `_` or `.`.
    name: String,
    /// How many units a full window allows.
    #[schema(minimum = 1, maximum = 1_000_000)]
    limit: u32,
    /// The window in seconds.
    #[schema(minimum = 1, maximum = 86_400)]
    window_s: u32,
    /// Whether every check counts against it. Default: false; only checks that name it do.
    #[schema(required = false)]
    always: bool,
}

impl NamedRateLimit {
    /// Describes limits.
    pub fn list(limits: &NamedLimits) -> Vec<Self> {
        let describe = |limit: &NamedLimit| Self {
            name: limit.name.as_str().to_owned(),
            limit: limit.limit,
            window_s: limit.window_s,
            always: limit.always,
        };
        limits.as_slice().iter().map(describe).collect()
    }
}

/// A named rate limit, which checks of a credential (`/v1/verify`) count against, in camel case.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = shared::CamelCaseLimit, examples(json!({
    "name": "search", "limit": 100, "windowS": 60, "always": false,
})))]
pub struct CamelCaseLimit {
    /// Its name: 1 to 64 ASCII letters, digits, `-`, `_` or `.`.
    name: String,
    /// How many units a full window allows.
    #[schema(minimum = 1, maximum = 1_000_000)]
    limit: u32,
    /// The window in seconds.
    #[schema(minimum = 1, maximum = 86_400)]
    window_s: u32,
    /// Whether every check counts against it. Default: false; only checks that name it do.
    #[schema(required = false)]
    always: bool,
}

impl CamelCaseLimit {
    /// Describes limits.
    pub fn list(limits: &NamedLimits) -> Vec<Self> {
        let rename = |NamedRateLimit { name, limit, window_s, always }| Self {
            name,
            limit,
            window_s,
            always,
        };
        NamedRateLimit::list(limits).into_iter().map(rename).collect()
    }
}

/// Credits: prepaid units. Each check (`/v1/verify`) whose verdict is valid takes its cost.
#[derive(Serialize, ToSchema)]
#[schema(as = shared::Credits, examples(json!({
    "remaining": 10_000, "refill": { "amount": 10_000, "every": "month" },
})))]
pub struct Credits {
    /// The units that remain. Servers take up to 1 % in advance, which is not included, and return
    /// what they did not use within 30 seconds.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    remaining: i64,
    /// How they are refilled; null if they are not.
    #[schema(required = false)]
    refill: Option<Refill>,
}

/// A refill: at the start of each day or month in UTC, at least `amount` units remain.
#[derive(Serialize, ToSchema)]
#[schema(as = shared::Refill)]
pub struct Refill {
    #[schema(minimum = 1, maximum = 1_000_000_000, examples(10_000))]
    amount: i64,
    /// `day` or `month`.
    #[schema(examples("month"))]
    every: &'static str,
}

impl From<credits::Credits> for Credits {
    fn from(credits: credits::Credits) -> Self {
        let refill = credits
            .refill
            .map(|refill| Refill { amount: refill.amount, every: refill.every.as_str() });
        Self { remaining: credits.remaining, refill }
    }
}

/// A change of credits: sets them with `remaining`, or adds units to them with `add`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "used only in the API description")]
#[schema(as = shared::CreditChange, examples(json!({ "add": 5000 })))]
pub struct CreditsUpdate {
    /// The units that remain from now on.
    #[schema(value_type = Option<i64>, nullable = false, minimum = 0, maximum = 1_000_000_000)]
    remaining: Option<i32>,
    /// How they are refilled, with `remaining`. Default: not at all.
    refill: Option<Refill>,
    /// Units to add to those that remain.
    #[schema(value_type = Option<i64>, nullable = false, minimum = 1, maximum = 1_000_000_000)]
    add: Option<i32>,
}

/// For families whose fields are named like `window_s`.
pub const SNAKE_CASE: bool = false;
/// For families whose fields are named like `windowS`.
pub const CAMEL_CASE: bool = true;

/// The fields of a limit, whose window is called `window_s`, or `windowS` in camel case.
struct LimitFields<const CAMEL: bool>(NamedLimit);

impl<const CAMEL: bool> FromFields for LimitFields<CAMEL> {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let window = if CAMEL { "windowS" } else { "window_s" };
        let name = fields.required("name", text(LimitName::parse));
        let limit = fields.required("limit", positive(MAX_UNITS));
        let window_s = fields.required(window, positive(MAX_WINDOW));
        let always = fields.optional("always", JsonNode::into_bool).unwrap_or(false);
        Some(Self(NamedLimit { name: name?, limit: limit?, window_s: window_s?, always }))
    }
}

/// The fields of credits to set.
struct CreditsFields(credits::Credits);

impl FromFields for CreditsFields {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let remaining = fields.required("remaining", |node| node.into_integer(0..=MAX_CREDITS));
        let refill = fields.optional_object("refill").map(|RefillFields(refill)| refill);
        Some(Self(credits::Credits { remaining: remaining?.into(), refill }))
    }
}

struct RefillFields(credits::Refill);

impl FromFields for RefillFields {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let amount = fields.required("amount", |node| node.into_integer(1..=MAX_CREDITS));
        let every = fields.required_choice("every", &RefillInterval::ALL);
        Some(Self(credits::Refill { amount: amount?.into(), every: every? }))
    }
}

/// The fields of a change of credits.
struct CreditChangeFields(CreditChange);

impl FromFields for CreditChangeFields {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        if fields.contains("add") {
            let add = fields.required("add", |node| node.into_integer(1..=MAX_CREDITS));
            if fields.contains("remaining") || fields.contains("refill") {
                fields.add_issue("add", "must not be combined with remaining or refill".into());
                fields.ignore(&["remaining", "refill"]);
            }
            return Some(Self(CreditChange::Add(add?.into())));
        }
        CreditsFields::from_fields(fields).map(|CreditsFields(it)| Self(CreditChange::Set(it)))
    }
}

/// Takes the optional field `limits`: a list of limits with different names, whose fields are named
/// in [`SNAKE_CASE`] or [`CAMEL_CASE`].
pub fn take_limits<const CAMEL: bool>(fields: &mut Fields<'_>) -> Option<NamedLimits> {
    let items = fields.optional_objects::<LimitFields<CAMEL>>("limits", 0..=MAX_LIMITS)?;
    match NamedLimits::new(items.into_iter().map(|LimitFields(limit)| limit).collect()) {
        Ok(limits) => Some(limits),
        Err(error) => {
            fields.add_issue("limits", error);
            None
        }
    }
}

/// Takes the field `limits` of an update, which replaces all limits. Null is invalid.
pub fn take_limits_update<const CAMEL: bool>(fields: &mut Fields<'_>) -> Option<NamedLimits> {
    if fields.is_null("limits") {
        return fields.non_null("limits", |_| Err("must be a list".into()));
    }
    take_limits::<CAMEL>(fields)
}

/// Takes the optional field `credits` of a key or an organization to create.
pub fn take_credits(fields: &mut Fields<'_>) -> Option<credits::Credits> {
    fields.optional_object("credits").map(|CreditsFields(credits)| credits)
}

/// Takes the optional field `credits` of an update; null removes them.
pub fn take_credit_change(fields: &mut Fields<'_>) -> Option<CreditChange> {
    let change = fields.nullable_object("credits")?;
    Some(change.map_or(CreditChange::Remove, |CreditChangeFields(change)| change))
}

/// Returns a parser for a whole number from 1 to `max`.
fn positive(max: i32) -> impl FnOnce(JsonNode) -> Result<u32, ValidationError> {
    move |node| Ok(node.into_integer(1..=max)?.unsigned_abs())
}
