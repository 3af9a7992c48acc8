//! What people's accounts and personal tokens are held to.

use chrono::TimeDelta;

use crate::config::env::Env;
use crate::config::keys::parse_switch;
use crate::model::ValidationError;
use crate::model::key_format::KeyFormat;

/// What people's accounts and personal tokens are held to.
pub struct AccountSettings {
    /// Whether nobody signs in before they proved that their address is theirs.
    pub require_email_verification: bool,
    /// The format of personal access tokens.
    pub token_format: KeyFormat,
    /// How long a personal token may live; `None` demands no end, and takes up to a year.
    pub token_lifetime: Option<TimeDelta>,
}

impl AccountSettings {
    pub(super) fn read(env: &mut Env<'_>, key_format: &KeyFormat) -> Self {
        let required = env.optional("REQUIRE_EMAIL_VERIFICATION", parse_switch);
        let token_format = token_format(env);
        // One text must not be of both kinds.
        let (one, other) = (token_format.prefix(), key_format.prefix());
        if one.starts_with(other) || other.starts_with(one) {
            env.add_problem("PAT_PREFIX", "must not begin like KEY_PREFIX, or that like this");
        }
        Self {
            require_email_verification: required.unwrap_or(false),
            token_format,
            token_lifetime: env.optional("PAT_MAX_DAYS", parse_days).map(TimeDelta::days),
        }
    }
}

/// The format of personal tokens, which checking one offline needs.
pub fn token_format(env: &mut Env<'_>) -> KeyFormat {
    env.optional("PAT_PREFIX", KeyFormat::parse).unwrap_or_else(KeyFormat::personal_token)
}

fn parse_days(text: &str) -> Result<i64, ValidationError> {
    let days = text.parse().ok().filter(|days| (1..=365).contains(days));
    days.ok_or("must be a number from 1 to 365".into())
}
