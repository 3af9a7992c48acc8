//! What a client says about itself, in a metadata document or in a registration (RFC 7591 §2,
//! OAUTH §1.3).
//!
//! Members that are not listed here are never read: neither unknown ones nor those that this server
//! decides, such as `status` or `organization_id`.

use serde_json::{Map, Value};

use crate::model::ValidationError;
use crate::model::names::AppName;
use crate::model::oauth::app::{AppScope, ClientUri, are_distinct};
use crate::model::oauth::redirect_uri::{MAX_REDIRECT_URIS, RedirectUri};
use crate::model::oauth::{ApplicationType, ClientAuthMethod, RequestableScopes};

/// Where metadata comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataSource {
    /// A metadata document, which cannot have a secret.
    Document,
    /// A registration. A client that asks for a secret becomes a public one.
    Registration,
}

/// What a client says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientMetadata {
    /// Its name.
    pub name: String,
    /// Its home page.
    pub client_uri: Option<ClientUri>,
    /// Where the answers to its requests may be sent.
    pub redirect_uris: Vec<RedirectUri>,
    /// Where it runs.
    pub application_type: ApplicationType,
    /// The scopes that it requests if a request names none: those of its `scope` that are
    /// requestable, `offline_access` included.
    pub scopes: Vec<String>,
}

/// A rule that a member of the metadata breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataProblem {
    /// The member.
    pub name: &'static str,
    /// What is required.
    pub message: ValidationError,
}

impl ClientMetadata {
    /// Reads the members of a JSON object.
    ///
    /// # Errors
    /// Every rule that is broken.
    pub fn parse(
        members: &Map<String, Value>,
        source: MetadataSource,
        requestable: &RequestableScopes,
    ) -> Result<Self, Vec<MetadataProblem>> {
        let mut reader = Reader { members, problems: Vec::new() };
        let application_type = reader.read("application_type", parse_application_type);
        let application_type = application_type.unwrap_or(ApplicationType::Web);
        let redirect_uris =
            reader.require("redirect_uris", |value| parse_redirect_uris(value, application_type));
        let name = reader.read("client_name", |value| AppName::parse(text(value)?));
        let client_uri = reader.read("client_uri", |value| ClientUri::parse(text(value)?));
        let scopes = reader.read("scope", |value| Ok(requestable_of(text(value)?, requestable)));
        reader.read("token_endpoint_auth_method", |value| check_method(text(value)?, source));
        reader.read("grant_types", |value| check_contains(value, "authorization_code"));
        reader.read("response_types", |value| check_contains(value, "code"));
        if source == MetadataSource::Document {
            if !members.contains_key("client_name") {
                reader.add("client_name", "is required");
            }
            reader.read("client_secret", |_| Err::<(), _>("must not be in the document".into()));
        }
        let redirect_uris = redirect_uris.filter(|_| reader.problems.is_empty());
        let Some(redirect_uris) = redirect_uris else { return Err(reader.problems) };
        // RFC 7591 does not require a name. The consent page needs one.
        let host = redirect_uris.first().map(RedirectUri::display_host).unwrap_or_default();
        let name = name.map_or(host, |name| name.as_str().to_owned());
        let scopes = scopes.unwrap_or_default();
        Ok(Self { name, client_uri, redirect_uris, application_type, scopes })
    }
}

/// Takes members out of an object, and collects their problems.
struct Reader<'a> {
    members: &'a Map<String, Value>,
    problems: Vec<MetadataProblem>,
}

impl Reader<'_> {
    fn add(&mut self, name: &'static str, message: impl Into<ValidationError>) {
        self.problems.push(MetadataProblem { name, message: message.into() });
    }

    /// Parses a member. `None` if it is absent, null, or invalid, after recording the problem.
    fn read<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&Value) -> Result<T, ValidationError>,
    ) -> Option<T> {
        let value = self.members.get(name).filter(|value| !value.is_null())?;
        parse(value).map_err(|message| self.add(name, message)).ok()
    }

    fn require<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&Value) -> Result<T, ValidationError>,
    ) -> Option<T> {
        if self.members.get(name).is_none_or(Value::is_null) {
            self.add(name, "is required");
        }
        self.read(name, parse)
    }
}

fn text(value: &Value) -> Result<&str, ValidationError> {
    value.as_str().ok_or_else(|| "must be a string".into())
}

fn texts(value: &Value) -> Result<Vec<&str>, ValidationError> {
    let items = value.as_array().map(|items| items.iter().map(Value::as_str).collect());
    items.flatten().ok_or_else(|| "must be a list of strings".into())
}

fn parse_application_type(value: &Value) -> Result<ApplicationType, ValidationError> {
    ApplicationType::parse(text(value)?).ok_or_else(|| "must be web or native".into())
}

fn parse_redirect_uris(
    value: &Value,
    application_type: ApplicationType,
) -> Result<Vec<RedirectUri>, ValidationError> {
    let uris = texts(value)?;
    if !(1..=MAX_REDIRECT_URIS).contains(&uris.len()) || !are_distinct(uris.iter().copied()) {
        return Err(format!("must be 1 to {MAX_REDIRECT_URIS} different URIs").into());
    }
    uris.into_iter().map(|uri| RedirectUri::parse(uri, application_type)).collect()
}

/// Returns the scopes of a list that clients may request. Others are left out, since the list is
/// not made for this server alone.
fn requestable_of(text: &str, requestable: &RequestableScopes) -> Vec<String> {
    let is_requestable = |word: &&str| AppScope::parse(word, requestable).is_ok();
    let mut scopes: Vec<String> = Vec::new();
    for word in text.split(' ').filter(is_requestable) {
        if !scopes.iter().any(|scope| scope == word) {
            scopes.push(word.to_owned());
        }
    }
    scopes
}

/// Checks how a client wants to authenticate: not at all, because it has no secret.
fn check_method(method: &str, source: MetadataSource) -> Result<(), ValidationError> {
    let is_public = match ClientAuthMethod::parse(method) {
        Some(ClientAuthMethod::None) => true,
        Some(ClientAuthMethod::SecretBasic | ClientAuthMethod::SecretPost) => {
            source == MetadataSource::Registration
        }
        None => false,
    };
    if is_public { Ok(()) } else { Err("must be none".into()) }
}

fn check_contains(value: &Value, required: &str) -> Result<(), ValidationError> {
    if texts(value)?.contains(&required) {
        Ok(())
    } else {
        Err(format!("must contain {required}").into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: &Value, source: MetadataSource) -> Result<ClientMetadata, Vec<&'static str>> {
        let requestable = RequestableScopes::with_operators(&[]);
        let members = value.as_object().expect("an object");
        let parsed = ClientMetadata::parse(members, source, &requestable);
        parsed.map_err(|problems| problems.iter().map(|problem| problem.name).collect())
    }

    #[test]
    fn every_member_that_breaks_a_rule_is_named() {
        let bad = json!({
            "client_name": "", "redirect_uris": ["javascript:alert(1)"], "client_uri": "http://a",
            "application_type": "phone", "scope": 1, "grant_types": ["password"],
            "response_types": "code", "token_endpoint_auth_method": "private_key_jwt",
            "client_secret": "s",
        });
        let mut all = vec![
            "application_type",
            "redirect_uris",
            "client_name",
            "client_uri",
            "scope",
            "token_endpoint_auth_method",
            "grant_types",
            "response_types",
        ];
        assert_eq!(parse(&bad, MetadataSource::Registration).unwrap_err(), all);
        all.push("client_secret");
        assert_eq!(parse(&bad, MetadataSource::Document).unwrap_err(), all);
        let missing = parse(&json!({}), MetadataSource::Document).unwrap_err();
        assert_eq!(missing, ["redirect_uris", "client_name"]);
    }

    #[test]
    fn redirect_uris_are_a_list_of_one_to_ten_different_ones() {
        let with = |uris: Value| {
            let metadata = json!({ "client_name": "A", "redirect_uris": uris });
            parse(&metadata, MetadataSource::Document).map(|it| it.redirect_uris.len())
        };
        let many = |count| (0..count).map(|it| format!("https://a.example/{it}")).collect();
        assert_eq!(with(json!(["http://localhost/callback", "https://a.example/cb"])), Ok(2));
        assert_eq!(with(many(10)), Ok(10));
        for uris in [
            json!([]),
            json!("https://a.example/cb"),
            json!([1]),
            json!(["https://a.example/cb", "https://a.example/cb"]),
            json!(["com.example.app:/cb"]),
            many(11),
        ] {
            assert_eq!(with(uris.clone()), Err(vec!["redirect_uris"]), "{uris}");
        }
    }

    #[test]
    fn only_a_registration_may_ask_for_a_secret_and_it_gets_none() {
        for (method, of_document, of_registration) in [
            ("none", true, true),
            ("client_secret_basic", false, true),
            ("client_secret_post", false, true),
            ("client_secret_jwt", false, false),
            ("private_key_jwt", false, false),
        ] {
            let metadata = json!({
                "client_name": "A", "redirect_uris": ["https://a.example/cb"],
                "token_endpoint_auth_method": method,
            });
            let is_valid = |source| parse(&metadata, source).is_ok();
            assert_eq!(is_valid(MetadataSource::Document), of_document, "{method}");
            assert_eq!(is_valid(MetadataSource::Registration), of_registration, "{method}");
        }
    }

    #[test]
    fn scopes_that_cannot_be_requested_and_unknown_members_are_left_out() {
        let metadata = json!({
            "redirect_uris": ["https://a.example/cb"], "scope": "projects:read openid * x:y \
            apps:write projects:read  offline_access", "skip_consent": true, "first_party": true,
            "status": "active", "organization_id": "org_1", "application_type": null,
        });
        let parsed = parse(&metadata, MetadataSource::Registration).expect("metadata");
        assert_eq!(parsed.scopes, ["projects:read", "openid", "offline_access"]);
        assert_eq!(parsed.name, "a.example");
    }
}
