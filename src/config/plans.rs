//! What each plan holds: the contract's table, and what the operator changes of it.

use serde_json::Value;

use crate::config::env::Env;
use crate::config::unique_object::UniqueObject;
use crate::model::ValidationError;
use crate::model::plan::{Plan, PlanLimits};

/// What each plan holds, in the order of [`Plan::ALL`].
#[derive(Debug)]
pub struct Plans([PlanLimits; 6]);

impl Default for Plans {
    /// The table of contract §1, *Rate limits*.
    fn default() -> Self {
        let row = |per_minute, per_month, keys, projects, seats| PlanLimits {
            requests_per_minute: Some(per_minute),
            requests_per_month: Some(per_month),
            keys: Some(keys),
            projects: Some(projects),
            seats: Some(seats),
        };
        let standard = row(6_000, 10_000_000, 1_000, 500, 200);
        Self([
            row(600, 100_000, 100, 10, 5),
            row(1_200, 1_000_000, 100, 50, 20),
            standard,
            standard,
            row(30_000, 100_000_000, 10_000, 5_000, 2_000),
            PlanLimits {
                requests_per_minute: None,
                requests_per_month: None,
                keys: None,
                projects: None,
                seats: None,
            },
        ])
    }
}

impl Plans {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        env.optional("PLANS", parse).unwrap_or_default()
    }

    /// What a plan holds.
    #[must_use]
    pub fn of(&self, plan: Plan) -> &PlanLimits {
        &self.0[plan as usize]
    }
}

/// Reads `{"starter":{"keys":500,"seats":null}}`: what is named is changed, and null is without
/// limit.
fn parse(text: &str) -> Result<Plans, ValidationError> {
    let expected = r#"must be JSON such as {"starter":{"keys":500,"seats":null}}"#;
    let overrides: UniqueObject<UniqueObject<Value>> =
        serde_json::from_str(text).map_err(|error| format!("{expected}: {error}"))?;
    let mut plans = Plans::default();
    for (word, UniqueObject(limits)) in &overrides.0 {
        let plan = Plan::parse(word).ok_or_else(|| format!("names the plan {word:?}: none"))?;
        for (name, limit) in limits {
            let limit_field = limit_mut(&mut plans.0[plan as usize], name)
                .ok_or_else(|| format!("names a limit {name:?} of {word}; {LIMIT_NAMES}"))?;
            *limit_field =
                match limit {
                    Value::Null => None,
                    limit => Some(limit.as_u64().filter(|limit| *limit <= MAX_LIMIT).ok_or_else(
                        || format!("has a limit {name} of {word} that is no whole number or null"),
                    )?),
                };
        }
        let per_minute = plans.of(plan).requests_per_minute;
        if per_minute.is_some_and(|limit| !(1..=MAX_PER_MINUTE).contains(&limit)) {
            return Err(format!(
                "has a limit requests_per_minute of {word} that is not 1 to {MAX_PER_MINUTE}"
            )
            .into());
        }
    }
    Ok(plans)
}

/// The most requests in a minute. None is no rate: that is what suspending is for.
const MAX_PER_MINUTE: u64 = u32::MAX as u64;

/// The largest limit: whole numbers in JSON are exact up to here.
const MAX_LIMIT: u64 = 1 << 53;
const LIMIT_NAMES: &str =
    "there are requests_per_minute, requests_per_month, keys, projects and seats";

fn limit_mut<'a>(limits: &'a mut PlanLimits, name: &str) -> Option<&'a mut Option<u64>> {
    match name {
        "requests_per_minute" => Some(&mut limits.requests_per_minute),
        "requests_per_month" => Some(&mut limits.requests_per_month),
        "keys" => Some(&mut limits.keys),
        "projects" => Some(&mut limits.projects),
        "seats" => Some(&mut limits.seats),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_changed_and_the_rest_stays() {
        let plans = parse(r#"{"starter":{"keys":500,"seats":null},"trial":{"projects":0}}"#);
        let plans = plans.expect("changes");
        let starter = plans.of(Plan::Starter);
        assert_eq!((starter.keys, starter.seats, starter.projects), (Some(500), None, Some(50)));
        assert_eq!(plans.of(Plan::Trial).projects, Some(0));
        assert_eq!(plans.of(Plan::Pro), plans.of(Plan::Standard));
        let most = parse(r#"{"trial":{"requests_per_minute":4294967295,"requests_per_month":0}}"#);
        assert_eq!(most.expect("changes").of(Plan::Trial).requests_per_month, Some(0));
    }

    #[test]
    fn a_plan_or_limit_that_is_none_is_a_problem() {
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
