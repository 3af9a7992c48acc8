//! The configuration, read from environment variables once at start.
//!
//! All problems are collected and reported under the names of their variables before the server
//! starts. A variable that is set but empty counts as not set.

pub mod accounts;
pub mod connections;
pub mod database;
pub mod database_url;
pub mod env;
pub mod github;
pub mod http;
pub mod keys;
pub mod mail;
pub mod master_keys;
pub mod named_secret;
pub mod oauth;
pub mod openid_keys;
pub mod outbound;
pub mod ownership;
pub mod plans;
pub mod rate_limits;
pub mod retention;
pub mod secrets_file;
pub mod services;
pub mod signup;
pub mod sso;
pub mod stripe;
pub mod telemetry;
pub mod tokens;
pub mod traces;
mod unique_object;
pub mod verification;

use std::fmt;

use crate::config::accounts::AccountSettings;
use crate::config::database::DatabaseSettings;
use crate::config::env::Env;
use crate::config::github::GithubSettings;
use crate::config::http::HttpSettings;
use crate::config::keys::KeySettings;
use crate::config::mail::MailSettings;
use crate::config::master_keys::MasterKeys;
use crate::config::oauth::OauthSettings;
use crate::config::outbound::OutboundSettings;
use crate::config::plans::Plans;
use crate::config::rate_limits::RateLimitSettings;
use crate::config::retention::RetentionSettings;
use crate::config::signup::SignupSettings;
use crate::config::sso::SsoSettings;
use crate::config::stripe::StripeSettings;
use crate::config::telemetry::TelemetrySettings;
use crate::config::tokens::TokenSettings;
use crate::config::verification::VerificationSettings;

/// All settings.
pub struct Config {
    /// The database.
    pub database: DatabaseSettings,
    /// The HTTP listener.
    pub http: HttpSettings,
    /// The format, peppers and scopes of keys.
    pub keys: KeySettings,
    /// The signing of access tokens.
    pub tokens: TokenSettings,
    /// The rules for accounts and personal access tokens.
    pub accounts: AccountSettings,
    /// The sending of mail.
    pub mail: MailSettings,
    /// Who may sign up.
    pub signup: SignupSettings,
    /// The keys of the operator's endpoints.
    pub master_keys: MasterKeys,
    /// The limits of each plan.
    pub plans: Plans,
    /// Stripe's webhooks.
    pub stripe: StripeSettings,
    /// What the server may fetch over HTTP.
    pub outbound: OutboundSettings,
    /// The reports of GitHub's secret scanning.
    pub github: GithubSettings,
    /// The rate limits.
    pub rate_limits: RateLimitSettings,
    /// The retention periods.
    pub retention: RetentionSettings,
    /// Logs, metrics and traces.
    pub telemetry: TelemetrySettings,
    /// Who may check customers' credentials.
    pub verification: VerificationSettings,
    /// The OAuth authorization server.
    pub oauth: OauthSettings,
    /// Single sign-on.
    pub sso: SsoSettings,
}

impl Config {
    /// Reads every setting from `env`.
    ///
    /// # Errors
    /// All problems, not only the first.
    pub fn read(env: &mut Env<'_>) -> Result<Self, ConfigError> {
        let config = Self::read_leniently(env);
        env.check_problems()?;
        Ok(config)
    }

    /// Reads every setting, for inspection only: an invalid variable is treated as not set. The
    /// problems stay in `env`.
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
        let outbound = OutboundSettings::read(env);
        let github = GithubSettings::read(env, &outbound);
        let rate_limits = RateLimitSettings::read(env);
        let retention = RetentionSettings::read(env);
        let telemetry = TelemetrySettings::read(env);
        let verification = VerificationSettings::read(env);
        let oauth = OauthSettings::read(env, &http, (&keys, &tokens, &verification));
        let sso = SsoSettings::read(env);
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
            outbound,
            github,
            rate_limits,
            retention,
            telemetry,
            verification,
            oauth,
            sso,
        }
    }
}

/// The reason why the server does not start: every invalid variable, and what is wrong with it.
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
