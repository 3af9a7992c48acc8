//! What the operator configured: environment variables, read once at start.
//!
//! Every problem is collected and reported under its variable's name before anything starts; a
//! variable that is set but empty counts as not set.

pub mod accounts;
pub mod connections;
pub mod database;
pub mod database_url;
pub mod env;
pub mod http;
pub mod keys;
pub mod mail;
pub mod master_keys;
pub mod named_secret;
pub mod ownership;
pub mod plans;
pub mod rate_limits;
pub mod retention;
pub mod secrets_file;
pub mod signup;
pub mod stripe;
pub mod telemetry;
pub mod tokens;
pub mod traces;
mod unique_object;

use std::fmt;

use crate::config::accounts::AccountSettings;
use crate::config::database::DatabaseSettings;
use crate::config::env::Env;
use crate::config::http::HttpSettings;
use crate::config::keys::KeySettings;
use crate::config::mail::MailSettings;
use crate::config::master_keys::MasterKeys;
use crate::config::plans::Plans;
use crate::config::rate_limits::RateLimitSettings;
use crate::config::retention::RetentionSettings;
use crate::config::signup::SignupSettings;
use crate::config::stripe::StripeSettings;
use crate::config::telemetry::TelemetrySettings;
use crate::config::tokens::TokenSettings;

/// Everything that can be configured.
pub struct Config {
    /// Where the database is.
    pub database: DatabaseSettings,
    /// Where and how we listen.
    pub http: HttpSettings,
    /// What keys look like and how they are digested.
    pub keys: KeySettings,
    /// How access tokens are signed.
    pub tokens: TokenSettings,
    /// What people's accounts and personal tokens are held to.
    pub accounts: AccountSettings,
    /// How mail is sent.
    pub mail: MailSettings,
    /// Who may sign up.
    pub signup: SignupSettings,
    /// What the operator's requests are proved with.
    pub master_keys: MasterKeys,
    /// What each plan holds.
    pub plans: Plans,
    /// How Stripe's webhooks are taken.
    pub stripe: StripeSettings,
    /// How often things may be done.
    pub rate_limits: RateLimitSettings,
    /// How long what is over is kept.
    pub retention: RetentionSettings,
    /// What is logged, counted and traced, and where to.
    pub telemetry: TelemetrySettings,
}

impl Config {
    /// Reads every setting from `env`.
    ///
    /// # Errors
    /// Every problem there is, not just the first.
    pub fn read(env: &mut Env<'_>) -> Result<Self, ConfigError> {
        let config = Self::read_leniently(env);
        env.check_problems()?;
        Ok(config)
    }

    /// Reads what can be read, to look at: what is broken or missing is as if it were not set. The
    /// problems are left with `env`.
    pub fn read_leniently(env: &mut Env<'_>) -> Self {
        let database = DatabaseSettings::read(env);
        let http = HttpSettings::read(env);
        let keys = KeySettings::read(env);
        let tokens = TokenSettings::read(env);
        let accounts = AccountSettings::read(env, &keys.format);
        let mail = MailSettings::read(env, &http.public_url);
        let signup = SignupSettings::read(env);
        let master_keys = MasterKeys::read(env);
        let plans = Plans::read(env);
        let stripe = StripeSettings::read(env);
        let limits = RateLimitSettings::read(env);
        let retention = RetentionSettings::read(env);
        let telemetry = TelemetrySettings::read(env);
        Self {
            database,
            http,
            keys,
            tokens,
            accounts,
            mail,
            signup,
            master_keys,
            plans,
            stripe,
            rate_limits: limits,
            retention,
            telemetry,
        }
    }
}

/// Why the server refuses to start: every variable that is wrong, and what is wrong with it.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<(&'static str, String)>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration has problems:")?;
        for (name, problem) in &self.0 {
            write!(f, "\n  {name} {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
