//! The settings for Stripe's webhooks: the signing secrets, and which events suspend an
//! organization.

use crate::config::env::{Env, check_unquoted};
use crate::model::ValidationError;
use crate::model::secret::Secret;

/// The minimum length of a secret in characters.
const MIN_SECRET_LENGTH: usize = 16;

/// The settings for Stripe's webhooks.
pub struct StripeSettings {
    /// The secrets that webhooks may be signed with. Without any, webhooks are not accepted.
    pub secrets: Vec<Secret>,
    /// The events that suspend an organization.
    pub suspend_on: SuspendOn,
}

/// The events that suspend an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuspendOn {
    /// A payment failed.
    pub payment_failed: bool,
    /// The subscription was deleted.
    pub subscription_deleted: bool,
}

impl Default for SuspendOn {
    fn default() -> Self {
        Self { payment_failed: true, subscription_deleted: true }
    }
}

impl StripeSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let secrets = env.optional("STRIPE_WEBHOOK_SECRET", parse_secrets).unwrap_or_default();
        let suspend_on = env.optional("STRIPE_SUSPEND_ON", parse_policy).unwrap_or_default();
        Self { secrets, suspend_on }
    }

    /// Returns whether webhooks are accepted.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        !self.secrets.is_empty()
    }
}

fn parse_secrets(text: &str) -> Result<Vec<Secret>, ValidationError> {
    text.split(',').map(|secret| parse_secret(secret.trim())).collect()
}

fn parse_secret(text: &str) -> Result<Secret, ValidationError> {
    let text = check_unquoted(text)?;
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.len() < MIN_SECRET_LENGTH || !visible {
        return Err(format!(
            "must be secrets of at least {MIN_SECRET_LENGTH} visible ASCII characters, separated \
             by commas"
        )
        .into());
    }
    Ok(Secret::new(text.to_owned()))
}

fn parse_policy(text: &str) -> Result<SuspendOn, ValidationError> {
    let mut policy = SuspendOn { payment_failed: false, subscription_deleted: false };
    if text == "never" {
        return Ok(policy);
    }
    for word in text.split(',') {
        match word.trim() {
            "payment_failed" => policy.payment_failed = true,
            "subscription_deleted" => policy.subscription_deleted = true,
            _ => {
                return Err("must be payment_failed, subscription_deleted, both separated by a \
                            comma, or never"
                    .into());
            }
        }
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<StripeSettings, crate::config::ConfigError> {
        let mut env = Env::from_source(|other: &str| (other == name).then(|| value.to_owned()));
        let settings = StripeSettings::read(&mut env);
        env.check_problems().map(|()| settings)
    }

    #[test]
    fn several_secrets_are_accepted_and_none_disables_webhooks() {
        let two = read("STRIPE_WEBHOOK_SECRET", "whsec_0123456789, whsec_9876543210");
        let two = two.unwrap_or_else(|problems| panic!("{problems}"));
        let texts: Vec<_> = two.secrets.iter().map(Secret::expose).collect();
        assert_eq!(texts, ["whsec_0123456789", "whsec_9876543210"]);
        assert!(read("", "").is_ok_and(|settings| !settings.is_enabled()));
        for value in ["whsec_012345678", "whsec_0123456789,", "whsec_ 0123456789"] {
            assert!(read("STRIPE_WEBHOOK_SECRET", value).is_err(), "{value:?}");
        }
    }

    #[test]
    fn the_events_that_suspend_are_both_one_or_none() {
        let policy = |value| read("STRIPE_SUSPEND_ON", value).ok().map(|it| it.suspend_on);
        let on = |payment_failed, subscription_deleted| {
            Some(SuspendOn { payment_failed, subscription_deleted })
        };
        assert_eq!(policy(""), on(true, true));
        assert_eq!(policy("subscription_deleted, payment_failed"), on(true, true));
        assert_eq!(policy("payment_failed"), on(true, false));
        assert_eq!(policy("subscription_deleted"), on(false, true));
        assert_eq!(policy("never"), on(false, false));
        for value in ["always", "payment_failed,", "never,payment_failed"] {
            assert_eq!(policy(value), None, "{value:?}");
        }
    }
}
