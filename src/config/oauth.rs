//! The settings of the OAuth authorization server (OAUTH §3.2).

use std::time::Duration;

use url::Url;

use crate::config::env::Env;
use crate::config::keys::{KeySettings, parse_switch};
use crate::config::openid_keys::{self, OpenidKey};
use crate::config::tokens::TokenSettings;
use crate::model::ValidationError;
use crate::model::key_format::KeyFormat;
use crate::model::oauth::RequestableScopes;
use crate::model::oauth::resource::Resource;
use crate::model::scope::Scope;

/// For how long a refresh token that was used may be used again, by default.
const DEFAULT_REFRESH_GRACE: Duration = Duration::from_mins(1);

/// The settings of the OAuth authorization server.
pub struct OauthSettings {
    /// Whether it is on. Otherwise its routes do not exist.
    pub is_on: bool,
    /// `PUBLIC_URL` without a trailing slash (RFC 8414 §2).
    pub issuer: String,
    /// The format of access tokens.
    token_format: KeyFormat,
    /// The scopes that clients may request.
    pub scopes: RequestableScopes,
    /// The resources that tokens may be for beside this API: the operator's own services.
    pub resources: Vec<Resource>,
    /// The keys that sign ID tokens, newest first. The newest signs. There is at least one if OAuth
    /// is on, and none otherwise.
    pub openid_keys: Vec<OpenidKey>,
    /// For how long a refresh token that was used gives the same successor again.
    pub refresh_grace: Duration,
}

impl OauthSettings {
    pub(super) fn read(
        env: &mut Env<'_>,
        public_url: &Url,
        (keys, tokens): (&KeySettings, &TokenSettings),
    ) -> Self {
        let is_on = env.optional("OAUTH", parse_switch).unwrap_or(false);
        let scopes = env.optional("OAUTH_SCOPES", parse_requestable);
        let resources = env.optional("OAUTH_RESOURCES", parse_resources).unwrap_or_default();
        let grace = env.optional("OAUTH_REFRESH_GRACE", parse_grace);
        // The issuer's metadata has one address only if the issuer has no path (OAUTH §1.1).
        if is_on && public_url.path() != "/" {
            env.add_problem("PUBLIC_URL", "must have no path when OAUTH is on");
        }
        let openid_keys = read_openid_keys(env, is_on, tokens);
        let default_scopes = || RequestableScopes::with_operators(&keys.operator_scopes);
        Self {
            is_on,
            issuer: public_url.as_str().trim_end_matches('/').to_owned(),
            token_format: KeyFormat::oauth_token(),
            scopes: scopes.unwrap_or_else(default_scopes),
            resources,
            openid_keys,
            refresh_grace: grace.unwrap_or(DEFAULT_REFRESH_GRACE),
        }
    }
}

impl OauthSettings {
    /// Returns whether the text may be an access token of this server.
    #[must_use]
    pub fn accepts(&self, text: &str) -> bool {
        self.is_on && self.token_format.matches(text)
    }
}

fn read_openid_keys(env: &mut Env<'_>, is_on: bool, tokens: &TokenSettings) -> Vec<OpenidKey> {
    let variable = openid_keys::VARIABLE;
    let keys = env.optional(variable, openid_keys::parse).unwrap_or_default();
    if is_on && !env.is_set(variable) {
        env.add_problem(variable, "must be set when DATABASE_URL is set and OAUTH is on");
    }
    // Both are in one document, in which clients find a key by its id.
    if keys.iter().any(|key| tokens.private_keys.iter().any(|other| other.id == key.id)) {
        env.add_problem(variable, "must not use an id that JWT_PRIVATE_KEYS uses");
    }
    if is_on { keys } else { Vec::new() }
}

/// Scopes that no app may have: with them it could give itself more than it was granted.
const NEVER_REQUESTABLE: [&str; 2] = ["api-keys", "apps"];

fn parse_requestable(text: &str) -> Result<RequestableScopes, ValidationError> {
    let scopes: Result<Vec<_>, _> = text.split(',').map(|word| Scope::parse(word.trim())).collect();
    let scopes = scopes?;
    if scopes.iter().any(Scope::is_wildcard) {
        return Err("must not have wildcards".into());
    }
    let subject = |scope: &Scope| scope.as_str().split(':').next().unwrap_or_default().to_owned();
    if let Some(scope) = scopes.iter().find(|it| NEVER_REQUESTABLE.contains(&&*subject(it))) {
        let why = "with which an app could give itself more than it was granted";
        return Err(format!("must not have {scope}, {why}").into());
    }
    Ok(RequestableScopes::new(scopes))
}

fn parse_resources(text: &str) -> Result<Vec<Resource>, ValidationError> {
    text.split(',').map(|uri| Resource::parse(uri.trim())).collect()
}

fn parse_grace(text: &str) -> Result<Duration, ValidationError> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= 600);
    let seconds = seconds.ok_or("must be a number of seconds from 0 to 600")?;
    Ok(Duration::from_secs(seconds))
}
