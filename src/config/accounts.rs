//! The settings for accounts and personal access tokens.

use chrono::TimeDelta;

use crate::config::env::Env;
use crate::config::keys::parse_switch;
use crate::model::ValidationError;
use crate::model::key_format::KeyFormat;

/// The settings for accounts and personal access tokens.
pub struct AccountSettings {
    /// Whether an account can sign in only after its e-mail address is verified.
    pub require_email_verification: bool,
    /// The format of personal access tokens.
    pub token_format: KeyFormat,
    /// The maximum lifetime of a personal access token. With `None`, a token needs no expiry, and
    /// an expiry may be up to a year away.
    pub token_lifetime: Option<TimeDelta>,
}

impl AccountSettings {
    pub(super) fn read(env: &mut Env<'_>, key_format: &KeyFormat) -> Self {
        let required = env.optional("REQUIRE_EMAIL_VERIFICATION", parse_switch);
        let token_format = token_format(env);
        // No text may match both formats.
        let (one, other) = (token_format.prefix(), key_format.prefix());
        if one.starts_with(other) || other.starts_with(one) {
            let problem = "must not begin with KEY_PREFIX, and KEY_PREFIX must not begin with it";
            env.add_problem("PAT_PREFIX", problem);
        }
        Self {
            require_email_verification: required.unwrap_or(false),
            token_format,
            token_lifetime: env.optional("PAT_MAX_DAYS", parse_days).map(TimeDelta::days),
        }
    }
}

/// Reads `PAT_PREFIX`, the setting that an offline check of a personal access token needs.
pub fn token_format(env: &mut Env<'_>) -> KeyFormat {
    env.optional("PAT_PREFIX", KeyFormat::parse).unwrap_or_else(KeyFormat::personal_token)
}

fn parse_days(text: &str) -> Result<i64, ValidationError> {
    let days = text.parse().ok().filter(|days| (1..=365).contains(days));
    days.ok_or("must be a number from 1 to 365".into())
}
