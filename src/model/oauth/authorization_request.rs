//! Authorization requests (RFC 6749 §4.1.1, RFC 7636, RFC 8707): which parameters are valid.

use std::collections::HashSet;

use crate::model::oauth::authorization_response::{
    AuthorizationError, AuthorizationErrorCode, ResponseMode, ResponseTarget,
};
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::resource::Resource;
use crate::model::oauth::{OFFLINE_ACCESS, OpenidScope, RequestableScopes, is_personal};
use crate::model::organization_handle::OrganizationHandle;
use crate::model::scope::Scope;

/// The maximum length of `state`, in bytes.
pub const MAX_STATE_BYTES: usize = 2_048;
/// The maximum length of `nonce` and `login_hint`, in bytes.
const MAX_TEXT_BYTES: usize = 512;
/// The maximum number of resources of one request.
const MAX_RESOURCES: usize = 10;
/// The length of a challenge: a SHA-256 in base64url without padding (RFC 7636 §4.2).
const CHALLENGE_LENGTH: usize = 43;
/// The parameter that a request may repeat (RFC 8707 §2).
const REPEATABLE: &str = "resource";

/// The parameters of a request, as they were sent.
pub struct RequestParameters(Vec<(String, String)>);

impl RequestParameters {
    /// Creates the parameters from the pairs of a query or a form.
    #[must_use]
    pub const fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// Returns a parameter that was sent exactly once, and not empty: a parameter without a value
    /// counts as one that was not sent (RFC 6749 §3.1).
    #[must_use]
    pub fn single(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(other, _)| other == name);
        let (_, value) = values.next()?;
        let is_single = values.next().is_none() && !value.is_empty();
        is_single.then_some(value.as_str())
    }

    fn resources(&self) -> impl Iterator<Item = &str> {
        let resources = self.0.iter().filter(|(name, _)| name == REPEATABLE);
        resources.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Returns whether a parameter that may not be repeated is repeated.
    fn has_repeated(&self) -> bool {
        let mut seen = HashSet::new();
        let mut names = self.0.iter().map(|(name, _)| name).filter(|name| *name != REPEATABLE);
        !names.all(|name| seen.insert(name))
    }
}

/// What a client asks of the person (`OpenID` Connect Core §3.1.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// No HTML page may be shown.
    None,
    /// The person must sign in again.
    Login,
    /// The person must be asked even if access is granted already.
    Consent,
    /// The person must be able to choose another account.
    SelectAccount,
}

impl Prompt {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::None, Self::Login, Self::Consent, Self::SelectAccount];

    /// Parses its word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }

    /// Returns its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Login => "login",
            Self::Consent => "consent",
            Self::SelectAccount => "select_account",
        }
    }
}

/// The access that a client requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedAccess {
    /// The requested scopes of `OpenID` Connect.
    pub openid_scopes: Vec<OpenidScope>,
    /// The requested scopes of credentials.
    pub scopes: Vec<Scope>,
    /// Whether `offline_access` is requested.
    pub is_offline: bool,
    /// The services that the tokens are for, sorted.
    pub resources: Vec<Resource>,
}

impl RequestedAccess {
    /// Parses `scope` and `resource`, which device requests have, too.
    ///
    /// # Errors
    /// An invalid scope or target.
    pub fn parse(
        parameters: &RequestParameters,
        rules: &RequestRules<'_>,
    ) -> Result<Self, AuthorizationError> {
        let RequestedScopes { openid_scopes, scopes, is_offline } =
            parse_scopes(parameters.single("scope"), rules)?;
        let resources = parse_resources(parameters, rules.resources)?;
        Ok(Self { openid_scopes, scopes, is_offline, resources })
    }

    /// Returns whether an organization must be chosen, because a scope is not about the person's
    /// own account.
    #[must_use]
    pub fn needs_organization(&self) -> bool {
        !self.scopes.iter().all(is_personal)
    }

    /// Returns every requested scope as text: those of `OpenID` Connect first, `offline_access`
    /// last.
    #[must_use]
    pub fn scope_texts(&self) -> Vec<String> {
        let offline = self.is_offline.then(|| OFFLINE_ACCESS.to_owned());
        self.own_scope_texts().chain(offline).collect()
    }

    /// Returns every requested scope but `offline_access` as text: those of `OpenID` Connect first.
    pub fn own_scope_texts(&self) -> impl Iterator<Item = String> {
        let openid = self.openid_scopes.iter().map(|scope| scope.as_str().to_owned());
        openid.chain(self.scopes.iter().map(ToString::to_string))
    }

    /// Returns the access of stored texts, without unknown scopes; `None` if a resource is unknown.
    #[must_use]
    pub fn from_stored(scopes: &[String], is_offline: bool, resources: &[String]) -> Option<Self> {
        let mut stored = RequestedScopes::default();
        scopes.iter().map(String::as_str).for_each(|word| stored.add(word));
        let RequestedScopes { openid_scopes, scopes, .. } = stored;
        let resources = resources.iter().map(|text| Resource::parse(text).ok());
        let resources = resources.collect::<Option<_>>()?;
        Some(Self { openid_scopes, scopes, is_offline, resources })
    }
}

/// A valid authorization request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationRequest {
    /// Where the response is sent.
    pub target: ResponseTarget,
    /// What it requests.
    pub access: RequestedAccess,
    /// The S256 challenge.
    pub challenge: String,
    /// The nonce.
    pub nonce: Option<String>,
    /// What is asked of the person.
    pub prompts: Vec<Prompt>,
    /// The maximum time since the person signed in, in seconds.
    pub max_age: Option<u32>,
    /// The e-mail address to sign in with, as the client expects.
    pub login_hint: Option<String>,
    /// The organization that the client expects.
    pub organization: Option<OrganizationHandle>,
}

/// What an authorization request is checked against.
pub struct RequestRules<'a> {
    /// The client that makes it.
    pub client: &'a OauthClient,
    /// The scopes that clients may request in this deployment.
    pub requestable: &'a RequestableScopes,
    /// The resources that tokens may be for: first this API, the default.
    pub resources: &'a [Resource],
}

impl AuthorizationRequest {
    /// Parses the parameters of a request whose client and redirect URI are valid.
    ///
    /// # Errors
    /// The error to send to `target`.
    pub fn parse(
        parameters: &RequestParameters,
        target: ResponseTarget,
        rules: &RequestRules<'_>,
    ) -> Result<Self, AuthorizationError> {
        require_supported(parameters)?;
        let access = RequestedAccess::parse(parameters, rules)?;
        let organization = parameters.single("organization_id").map(OrganizationHandle::parse);
        Ok(Self {
            target,
            access,
            challenge: parse_challenge(parameters)?,
            nonce: parse_text(
                parameters,
                "nonce",
                "`nonce` is too long or has control characters",
            )?,
            prompts: parse_prompts(parameters.single("prompt"))?,
            max_age: parse_max_age(parameters.single("max_age"))?,
            login_hint: parse_text(
                parameters,
                "login_hint",
                "`login_hint` is too long or has control characters",
            )?,
            organization: organization.transpose().map_err(|_| {
                AuthorizationError::invalid("`organization_id` is not an organization's id")
            })?,
        })
    }

    /// Returns whether the request has this prompt.
    #[must_use]
    pub fn has_prompt(&self, prompt: Prompt) -> bool {
        self.prompts.contains(&prompt)
    }
}

/// Returns the mode of the response. If the requested mode is unknown or not possible, returns the
/// default, since that error must be sent, too.
#[must_use]
pub fn response_mode(parameters: &RequestParameters, redirect_uri: &str) -> ResponseMode {
    let mode = parameters.single("response_mode").and_then(ResponseMode::parse);
    // A form can be posted to a web server only.
    let is_web = redirect_uri.starts_with("https://") || redirect_uri.starts_with("http://");
    mode.filter(|_| is_web).unwrap_or(ResponseMode::Query)
}

/// Returns `state`, if it can be echoed.
#[must_use]
pub fn parse_state(parameters: &RequestParameters) -> Option<String> {
    parameters.single("state").filter(|it| is_plain_text(it, MAX_STATE_BYTES)).map(str::to_owned)
}

/// Checks that no parameter is repeated or has a value that is not supported.
fn require_supported(parameters: &RequestParameters) -> Result<(), AuthorizationError> {
    let unsupported = |code, message| Err(AuthorizationError::new(code, message));
    if parameters.has_repeated() {
        return Err(AuthorizationError::invalid("A parameter is repeated"));
    }
    if parameters.single("request").is_some() {
        let code = AuthorizationErrorCode::RequestNotSupported;
        return unsupported(code, "`request` is not supported");
    }
    if parameters.single("request_uri").is_some() {
        let code = AuthorizationErrorCode::RequestUriNotSupported;
        return unsupported(code, "`request_uri` is not supported");
    }
    match parameters.single("response_type") {
        Some("code") => {}
        Some(_) => {
            let code = AuthorizationErrorCode::UnsupportedResponseType;
            return unsupported(code, "`response_type` must be code");
        }
        None => return Err(AuthorizationError::invalid("`response_type` is required")),
    }
    if parameters.single("state").is_some() && parse_state(parameters).is_none() {
        let message = "`state` must be at most 2048 bytes long, without control characters";
        return Err(AuthorizationError::invalid(message));
    }
    match (parameters.single("response_mode"), parameters.single("redirect_uri")) {
        (Some(mode), Some(uri))
            if ResponseMode::parse(mode) != Some(response_mode(parameters, uri)) =>
        {
            Err(AuthorizationError::invalid("`response_mode` must be query or form_post"))
        }
        _ => Ok(()),
    }
}

fn parse_challenge(parameters: &RequestParameters) -> Result<String, AuthorizationError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let challenge = parameters.single("code_challenge");
    let challenge = challenge
        .filter(|text| text.len() == CHALLENGE_LENGTH && text.bytes().all(is_allowed))
        .ok_or_else(|| {
            AuthorizationError::invalid("`code_challenge` must be 43 characters of base64url")
        })?;
    if parameters.single("code_challenge_method") != Some("S256") {
        return Err(AuthorizationError::invalid("`code_challenge_method` must be S256"));
    }
    Ok(challenge.to_owned())
}

/// The scopes of a request, each once.
#[derive(Default)]
struct RequestedScopes {
    openid_scopes: Vec<OpenidScope>,
    scopes: Vec<Scope>,
    is_offline: bool,
}

impl RequestedScopes {
    /// Adds a scope that is requestable.
    fn add(&mut self, word: &str) {
        if word == OFFLINE_ACCESS {
            self.is_offline = true;
        } else if let Some(scope) = OpenidScope::parse(word) {
            if !self.openid_scopes.contains(&scope) {
                self.openid_scopes.push(scope);
            }
        } else if let Ok(scope) = Scope::parse(word)
            && !self.scopes.contains(&scope)
        {
            self.scopes.push(scope);
        }
    }
}

/// Parses `scope`. Without it, the client's registered scopes are requested, but not access while
/// the person is away.
fn parse_scopes(
    requested: Option<&str>,
    rules: &RequestRules<'_>,
) -> Result<RequestedScopes, AuthorizationError> {
    let invalid = |message| AuthorizationError::new(AuthorizationErrorCode::InvalidScope, message);
    let is_requestable = |word: &str| word == OFFLINE_ACCESS || rules.requestable.allows(word);
    let mut scopes = RequestedScopes::default();
    let words = requested.into_iter().flat_map(|text| text.split(' ')).filter(|it| !it.is_empty());
    for word in words {
        if !rules.client.may_request(word) || !is_requestable(word) {
            return Err(invalid("`scope` has an unknown scope, or one the client may not request"));
        }
        scopes.add(word);
    }
    if requested.is_none() {
        let registered = rules.client.scopes.iter().filter(|it| rules.requestable.allows(it));
        registered.for_each(|scope| scopes.add(scope));
    }
    if scopes.scopes.is_empty() && scopes.openid_scopes.is_empty() {
        return Err(invalid("`scope` is required"));
    }
    Ok(scopes)
}

fn parse_resources(
    parameters: &RequestParameters,
    known: &[Resource],
) -> Result<Vec<Resource>, AuthorizationError> {
    let parsed = parameters.resources().map(|text| {
        Resource::parse(text).ok().filter(|resource| known.contains(resource)).ok_or_else(|| {
            let code = AuthorizationErrorCode::InvalidTarget;
            AuthorizationError::new(code, "`resource` is not a resource of this server")
        })
    });
    let mut resources = parsed.collect::<Result<Vec<Resource>, _>>()?;
    if resources.is_empty() {
        resources.extend(known.first().cloned());
    }
    resources.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    resources.dedup();
    if resources.len() > MAX_RESOURCES {
        let message = "A request must name at most 10 resources";
        return Err(AuthorizationError::new(AuthorizationErrorCode::InvalidTarget, message));
    }
    Ok(resources)
}

fn parse_prompts(text: Option<&str>) -> Result<Vec<Prompt>, AuthorizationError> {
    let words = text.into_iter().flat_map(|text| text.split(' ')).filter(|it| !it.is_empty());
    let prompts: Option<Vec<Prompt>> = words.map(Prompt::parse).collect();
    let is_valid = |it: &Vec<Prompt>| it.len() < 2 || !it.contains(&Prompt::None);
    prompts.filter(is_valid).ok_or_else(|| {
        let message = "`prompt` must be none, or some of login, consent and select_account";
        AuthorizationError::invalid(message)
    })
}

fn parse_max_age(text: Option<&str>) -> Result<Option<u32>, AuthorizationError> {
    let parse = |text: &str| text.parse().ok().filter(|_| !text.starts_with('+'));
    let invalid = || AuthorizationError::invalid("`max_age` must be a number of seconds");
    text.map(|text| parse(text).ok_or_else(invalid)).transpose()
}

fn parse_text(
    parameters: &RequestParameters,
    name: &str,
    message: &'static str,
) -> Result<Option<String>, AuthorizationError> {
    match parameters.single(name) {
        Some(text) if !is_plain_text(text, MAX_TEXT_BYTES) => {
            Err(AuthorizationError::invalid(message))
        }
        text => Ok(text.map(str::to_owned)),
    }
}

fn is_plain_text(text: &str, max_bytes: usize) -> bool {
    text.len() <= max_bytes && !text.chars().any(char::is_control)
}
