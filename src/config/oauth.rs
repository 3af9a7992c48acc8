//! The settings of the OAuth authorization server.

use std::time::Duration;

use url::Url;

use crate::config::env::{Env, check_unquoted};
use crate::config::http::HttpSettings;
use crate::config::keys::{KeySettings, parse_switch};
use crate::config::openid_keys::{self, OpenidKey};
use crate::config::services::{self, Service};
use crate::config::tokens::TokenSettings;
use crate::config::verification::VerificationSettings;
use crate::model::ValidationError;
use crate::model::key_format::KeyFormat;
use crate::model::oauth::resource::Resource;
use crate::model::oauth::{ClientKind, IdTokenAlgorithm, RequestableScopes};
use crate::model::origin::{Origin, TrustedOrigins};
use crate::model::scope::Scope;
use crate::model::secret::Secret;

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
    /// The services of the operator's own that tokens may be for, beside this API.
    pub services: Vec<Service>,
    /// The operator's own page for signing in; `None` for this server's.
    pub sign_in_page: Option<String>,
    /// The keys that sign ID tokens, newest first. The newest of each algorithm signs. There is at
    /// least one for RS256 if OAuth is on, and none otherwise.
    pub openid_keys: Vec<OpenidKey>,
    /// For how long a refresh token that was used gives the same successor again.
    pub refresh_grace: Duration,
    /// Whether the URL of a metadata document is a client id.
    pub accepts_documents: bool,
    /// Who may register clients.
    pub registration: RegistrationSettings,
}

/// Who may register clients (RFC 7591).
pub enum RegistrationSettings {
    /// No one.
    Off,
    /// Requests with this initial access token.
    WithToken(Secret),
    /// Anyone.
    Open,
}

impl RegistrationSettings {
    fn read(env: &mut Env<'_>) -> Self {
        let token = env.optional("OAUTH_DCR_TOKEN", parse_token);
        let mode = env.optional("OAUTH_DCR", |text| match text {
            "off" | "token" | "open" => Ok(text.to_owned()),
            _ => Err("must be off, token or open".into()),
        });
        match (mode.as_deref(), token) {
            (Some("token"), Some(token)) => Self::WithToken(token),
            (Some("token"), None) => {
                if !env.is_set("OAUTH_DCR_TOKEN") {
                    env.add_problem("OAUTH_DCR_TOKEN", "must be set when OAUTH_DCR is token");
                }
                Self::Off
            }
            (Some("open"), _) => Self::Open,
            (_, token) => {
                if token.is_some() && !env.is_set("OAUTH_DCR") {
                    let problem = "must be set when OAUTH_DCR_TOKEN is set; token requires it";
                    env.add_problem("OAUTH_DCR", problem);
                }
                Self::Off
            }
        }
    }

    /// Returns whether clients can be registered.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        !matches!(self, Self::Off)
    }
}

impl OauthSettings {
    pub(super) fn read(
        env: &mut Env<'_>,
        http: &HttpSettings,
        (keys, tokens, verification): (&KeySettings, &TokenSettings, &VerificationSettings),
    ) -> Self {
        let is_on = env.optional("OAUTH", parse_switch).unwrap_or(false);
        let scopes = env.optional("OAUTH_SCOPES", parse_requestable);
        let services = services::read(env, &http.public_url, verification);
        let grace = env.optional("OAUTH_REFRESH_GRACE", parse_grace);
        let accepts_documents = env.optional("OAUTH_CIMD", parse_switch).unwrap_or(true);
        // With a path, the issuer's metadata would have two addresses (RFC 8414 §5).
        let public_url = &http.public_url;
        if is_on && public_url.path() != "/" {
            env.add_problem("PUBLIC_URL", "must have no path when OAUTH is on");
        }
        let openid_keys = read_openid_keys(env, is_on, tokens);
        let parse_page = |text: &str| parse_sign_in_page(text, &http.trusted_origins);
        let sign_in_page = env.optional("SIGN_IN_PAGE", parse_page);
        let default_scopes = || RequestableScopes::with_operators(&keys.operator_scopes);
        Self {
            is_on,
            issuer: public_url.as_str().trim_end_matches('/').to_owned(),
            token_format: KeyFormat::oauth_token(),
            scopes: scopes.unwrap_or_else(default_scopes),
            services,
            sign_in_page,
            openid_keys,
            refresh_grace: grace.unwrap_or(DEFAULT_REFRESH_GRACE),
            accepts_documents,
            registration: RegistrationSettings::read(env),
        }
    }
}

impl OauthSettings {
    /// Returns the algorithms that ID tokens can be signed with.
    #[must_use]
    pub fn id_token_algorithms(&self) -> Vec<IdTokenAlgorithm> {
        let is_supported = |algorithm: &IdTokenAlgorithm| {
            self.openid_keys.iter().any(|it| it.algorithm == *algorithm)
        };
        IdTokenAlgorithm::ALL.iter().copied().filter(is_supported).collect()
    }

    /// Returns whether a verifier accepts tokens for these resources (RFC 8707). A verifier that
    /// stands for services accepts tokens for these. Every other verifier accepts tokens for this
    /// API and for services without a verifier.
    #[must_use]
    pub fn is_for_verifier(&self, name: &str, resources: &[String]) -> bool {
        let is_own = |service: &&Service| service.verifier.as_deref() == Some(name);
        let mut own = self.services.iter().filter(is_own).peekable();
        let is_for = |service: &Service| resources.iter().any(|it| it == service.resource.as_str());
        if own.peek().is_some() {
            return own.any(is_for);
        }
        let mut shared = self.services.iter().filter(|service| service.verifier.is_none());
        resources.contains(&self.issuer) || shared.any(is_for)
    }

    /// Returns whether the access tokens for this resource are JWTs (RFC 9068).
    #[must_use]
    pub fn takes_jwt(&self, resource: &str) -> bool {
        let is_it = |service: &&Service| service.resource.as_str() == resource;
        self.services.iter().find(is_it).is_some_and(|service| service.takes_jwt)
    }

    /// Checks the audience of a short-lived token, which has the form of an OAuth access token that
    /// is a JWT.
    ///
    /// # Errors
    /// It is a service that takes those, and could take the token for one.
    pub fn check_audience(&self, audience: &str) -> Result<(), ValidationError> {
        let resource = Resource::parse(audience).ok();
        if resource.is_some_and(|resource| self.takes_jwt(resource.as_str())) {
            return Err("must not be one of OAUTH_JWT_RESOURCES".into());
        }
        Ok(())
    }

    /// Returns whether a token for these resources may be exchanged for one for this audience: a
    /// resource, or another name, which stands for a service behind this API.
    #[must_use]
    pub fn may_pass_on(&self, resources: &[String], audience: &str) -> bool {
        let known = self.services.iter().map(|service| service.resource.as_str());
        let known: Vec<&str> = known.chain([self.issuer.as_str()]).collect();
        let resource = Resource::parse(audience).ok();
        let named = resource.as_ref().filter(|it| known.contains(&it.as_str()));
        let needed = named.map_or(self.issuer.as_str(), Resource::as_str);
        resources.iter().any(|it| it == needed)
    }

    /// Returns whether the text may be an access token of this server.
    #[must_use]
    pub fn accepts(&self, text: &str) -> bool {
        self.is_on && self.token_format.matches(text)
    }

    /// Returns whether clients of this kind may request anything. Clients that registered
    /// themselves still may if `OAUTH_DCR` is off: that only prevents new registrations.
    #[must_use]
    pub fn accepts_kind(&self, kind: ClientKind) -> bool {
        kind != ClientKind::Document || self.accepts_documents
    }
}

fn read_openid_keys(env: &mut Env<'_>, is_on: bool, tokens: &TokenSettings) -> Vec<OpenidKey> {
    let variable = openid_keys::VARIABLE;
    let keys = env.optional(variable, openid_keys::parse).unwrap_or_default();
    if is_on && !env.is_set(variable) {
        env.add_problem(variable, "must be set when DATABASE_URL is set and OAUTH is on");
    }
    if !keys.is_empty() && keys.iter().all(|key| key.algorithm != IdTokenAlgorithm::Rs256) {
        env.add_problem(variable, "must have an RSA key, for clients that support only RS256");
    }
    // Both lists are in one document, in which clients find a key by its id.
    if keys.iter().any(|key| tokens.private_keys.iter().any(|other| other.id == key.id)) {
        env.add_problem(variable, "must not use an id that JWT_PRIVATE_KEYS uses");
    }
    if is_on { keys } else { Vec::new() }
}

/// Scopes that no app may have: with them it could give itself more than it was granted.
const NEVER_REQUESTABLE: [&str; 3] = ["api-keys", "apps", "sso"];

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

/// Parses the URL of a dashboard's page. Parameters will be added to its query.
fn parse_sign_in_page(text: &str, origins: &TrustedOrigins) -> Result<String, ValidationError> {
    let is_plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
    };
    let url = Url::parse(text).ok().filter(is_plain);
    let url = url.filter(|url| origins.is_dashboard(&Origin::from_url(url)));
    let url = url.ok_or("must be the URL of a page of one of DASHBOARD_ORIGINS")?;
    if url.fragment().is_some() {
        return Err("must not have a #: parameters are added to its query".into());
    }
    let is_own_path = url.path().starts_with("/oauth2/") || url.path() == "/device";
    if is_own_path && origins.is_own(&Origin::from_url(&url)) {
        return Err("must not be a page of this server".into());
    }
    if url.query_pairs().any(|(name, _)| matches!(&*name, "request" | "user_code")) {
        return Err("must not have the parameters request and user_code, which are added".into());
    }
    Ok(url.into())
}

fn parse_token(text: &str) -> Result<Secret, ValidationError> {
    let text = check_unquoted(text)?;
    if text.len() < 32 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be at least 32 visible ASCII characters".into());
    }
    Ok(Secret::new(text.to_owned()))
}

fn parse_grace(text: &str) -> Result<Duration, ValidationError> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= 600);
    let seconds = seconds.ok_or("must be a number of seconds from 0 to 600")?;
    Ok(Duration::from_secs(seconds))
}
