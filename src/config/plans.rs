//! The limits of each plan: the defaults, and the operator's overrides.

use serde_json::Value;

use crate::config::env::Env;
use crate::config::unique_object::UniqueObject;
use crate::model::ValidationError;
use crate::model::plan::{Plan, PlanLimits};

/// The limits of each plan, in the order of [`Plan::ALL`].
#[derive(Debug)]
pub struct Plans([PlanLimits; 6]);

impl Default for Plans {
    /// Returns the limits without `PLANS`.
    fn default() -> Self {
        let row = |per_minute, per_month, keys, projects, seats, apps| PlanLimits {
            requests_per_minute: Some(per_minute),
            requests_per_month: Some(per_month),
            keys: Some(keys),
            projects: Some(projects),
            seats: Some(seats),
            apps: Some(apps),
        };
        let standard = row(6_000, 10_000_000, 1_000, 500, 200, 100);
        Self([
            row(600, 100_000, 100, 10, 5, 10),
            row(1_200, 1_000_000, 100, 50, 20, 20),
            standard,
            standard,
            row(30_000, 100_000_000, 10_000, 5_000, 2_000, 1_000),
            PlanLimits {
                requests_per_minute: None,
                requests_per_month: None,
                keys: None,
                projects: None,
                seats: None,
                apps: None,
            },
        ])
    }
}

impl Plans {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        env.optional("PLANS", parse).unwrap_or_default()
    }

    /// Returns the limits of a plan.
    #[must_use]
    pub fn of(&self, plan: Plan) -> &PlanLimits {
        &self.0[plan as usize]
    }
}

/// Parses overrides such as `{"starter":{"keys":500,"seats":null}}`. Limits that are not named keep
/// their defaults, and null means unlimited.
fn parse(text: &str) -> Result<Plans, ValidationError> {
    let expected = r#"must be JSON such as {"starter":{"keys":500,"seats":null}}"#;
    let overrides: UniqueObject<UniqueObject<Value>> =
        serde_json::from_str(text).map_err(|error| format!("{expected}: {error}"))?;
    let mut plans = Plans::default();
    for (wire_name, UniqueObject(limits)) in &overrides.0 {
        let plan = Plan::parse(wire_name).ok_or_else(|| {
            let plans = Plan::ALL.map(|(_, wire_name)| wire_name).join(", ");
            format!("must not name the unknown plan {wire_name:?}; the plans are {plans}")
        })?;
        for (name, limit) in limits {
            let limit_field = limit_mut(&mut plans.0[plan as usize], name).ok_or_else(|| {
                format!("must not name the unknown limit {name:?} of {wire_name}; {LIMIT_NAMES}")
            })?;
            let invalid = || {
                format!(
                    "must set {name} of {wire_name} to null or a whole number up to {MAX_LIMIT}"
                )
            };
            *limit_field = match limit {
                Value::Null => None,
                limit => {
                    let limit = limit.as_u64().filter(|limit| *limit <= MAX_LIMIT);
                    Some(limit.ok_or_else(invalid)?)
                }
            };
        }
        let per_minute = plans.of(plan).requests_per_minute;
        if per_minute.is_some_and(|limit| !(1..=MAX_PER_MINUTE).contains(&limit)) {
            return Err(format!(
                "must set requests_per_minute of {wire_name} to null or a number from 1 to \
                 {MAX_PER_MINUTE}"
            )
            .into());
        }
    }
    Ok(plans)
}

/// The maximum number of requests per minute. The minimum is 1: to reject all requests, an operator
/// suspends the organization.
const MAX_PER_MINUTE: u64 = u32::MAX as u64;

/// The largest limit: the whole numbers up to here are exact in JSON.
const MAX_LIMIT: u64 = 1 << 53;
const LIMIT_NAMES: &str =
    "the limits are requests_per_minute, requests_per_month, keys, projects, seats and apps";

fn limit_mut<'a>(limits: &'a mut PlanLimits, name: &str) -> Option<&'a mut Option<u64>> {
    match name {
        "requests_per_minute" => Some(&mut limits.requests_per_minute),
        "requests_per_month" => Some(&mut limits.requests_per_month),
        "keys" => Some(&mut limits.keys),
        "projects" => Some(&mut limits.projects),
        "seats" => Some(&mut limits.seats),
        "apps" => Some(&mut limits.apps),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_limits_are_overridden_and_the_others_keep_their_defaults() {
        let plans = parse(r#"{"starter":{"keys":500,"seats":null},"trial":{"projects":0}}"#);
        let plans = plans.expect("overrides");
        let starter = plans.of(Plan::Starter);
        assert_eq!((starter.keys, starter.seats, starter.projects), (Some(500), None, Some(50)));
        assert_eq!(plans.of(Plan::Trial).projects, Some(0));
        assert_eq!(plans.of(Plan::Pro), plans.of(Plan::Standard));
        let max = parse(r#"{"trial":{"requests_per_minute":4294967295,"requests_per_month":0}}"#);
        assert_eq!(max.expect("overrides").of(Plan::Trial).requests_per_month, Some(0));
    }

    #[test]
    fn an_unknown_plan_or_an_invalid_limit_is_a_problem() {
        for text in [
            "",
            "[]",
            r#"{"gold":{}}"#,
            r#"{"trial":5}"#,
            r#"{"trial":{"key":5}}"#,
            r#"{"trial":{"keys":-1}}"#,
            r#"{"trial":{"keys":1.5}}"#,
            r#"{"trial":{"keys":"5"}}"#,
            r#"{"trial":{"keys":1},"trial":{"seats":1}}"#,
            r#"{"trial":{"keys":1,"keys":2}}"#,
            r#"{"trial":{"requests_per_minute":0}}"#,
            r#"{"trial":{"requests_per_minute":4294967296}}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
