//! What a client says about itself, in a metadata document or in a registration (RFC 7591 §2).
//!
//! Members that are not listed here are never read: neither unknown ones nor those that this server
//! decides, such as `status` or `organization_id`.

use serde_json::{Map, Value};

use crate::model::ValidationError;
use crate::model::names::AppName;
use crate::model::oauth::app::{AppScope, ClientUri, are_distinct};
use crate::model::oauth::client_keys::ClientKeys;
use crate::model::oauth::redirect_uri::{MAX_REDIRECT_URIS, RedirectUri};
use crate::model::oauth::{ApplicationType, ClientAuthMethod, IdTokenAlgorithm, RequestableScopes};
use crate::model::public_key_set::{KeySetUrl, PublicKeySet};

/// Where metadata comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataSource {
    /// A metadata document. It may contain public keys, but no secret.
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
    /// Where the responses to its requests may be sent.
    pub redirect_uris: Vec<RedirectUri>,
    /// Where it runs.
    pub application_type: ApplicationType,
    /// How it authenticates: not at all, or with a private key.
    pub auth_method: ClientAuthMethod,
    /// The public keys, if and only if it authenticates with a private key.
    pub keys: Option<ClientKeys>,
    /// How its ID tokens are signed.
    pub id_token_algorithm: IdTokenAlgorithm,
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
        let auth_method =
            reader.read("token_endpoint_auth_method", |value| parse_method(text(value)?, source));
        let auth_method = auth_method.unwrap_or(ClientAuthMethod::None);
        let keys = reader.read_keys(auth_method);
        // If the algorithm is not supported, ID tokens are signed as every client accepts it.
        let id_token_algorithm = reader.read("id_token_signed_response_alg", |value| {
            Ok(IdTokenAlgorithm::parse(text(value)?).unwrap_or(IdTokenAlgorithm::Rs256))
        });
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
        Ok(Self {
            name,
            client_uri,
            redirect_uris,
            application_type,
            auth_method,
            keys,
            id_token_algorithm: id_token_algorithm.unwrap_or(IdTokenAlgorithm::Rs256),
            scopes,
        })
    }
}

/// Reads the members of an object, and collects their problems.
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

    /// Reads the public keys of a client that authenticates with a private key: there are either
    /// keys, or a URL at which they are published. Keys of any other client are ignored.
    fn read_keys(&mut self, method: ClientAuthMethod) -> Option<ClientKeys> {
        if method != ClientAuthMethod::PrivateKeyJwt {
            return None;
        }
        let has = |name: &str| self.members.get(name).is_some_and(|value| !value.is_null());
        if !has("jwks") && !has("jwks_uri") {
            self.add("jwks", "is required with private_key_jwt, unless there is jwks_uri");
        }
        let registered = self.read("jwks", PublicKeySet::parse);
        let published = self.read("jwks_uri", |value| KeySetUrl::parse(text(value)?));
        let keys = ClientKeys::of(registered, published);
        keys.map_err(|message| self.add("jwks_uri", message)).ok().flatten()
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

/// Parses how a client wants to authenticate. It cannot have a secret.
fn parse_method(method: &str, source: MetadataSource) -> Result<ClientAuthMethod, ValidationError> {
    let is_registration = source == MetadataSource::Registration;
    match ClientAuthMethod::parse(method) {
        Some(ClientAuthMethod::None) => Ok(ClientAuthMethod::None),
        Some(ClientAuthMethod::SecretBasic | ClientAuthMethod::SecretPost) if is_registration => {
            Ok(ClientAuthMethod::None)
        }
        Some(ClientAuthMethod::PrivateKeyJwt) if !is_registration => {
            Ok(ClientAuthMethod::PrivateKeyJwt)
        }
        _ if is_registration => Err("must be none".into()),
        _ => Err("must be none or private_key_jwt".into()),
    }
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
            "response_types": "code", "token_endpoint_auth_method": "client_secret_jwt",
            "id_token_signed_response_alg": 256, "client_secret": "s",
        });
        let mut all = vec![
            "application_type",
            "redirect_uris",
            "client_name",
            "client_uri",
            "scope",
            "token_endpoint_auth_method",
            "id_token_signed_response_alg",
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
    fn only_a_registration_may_ask_for_a_secret_and_it_gets_none_and_only_a_document_has_keys() {
        for (method, of_document, of_registration) in [
            ("none", true, true),
            ("client_secret_basic", false, true),
            ("client_secret_post", false, true),
            ("client_secret_jwt", false, false),
            ("private_key_jwt", true, false),
        ] {
            let metadata = json!({
                "client_name": "A", "redirect_uris": ["https://a.example/cb"],
                "token_endpoint_auth_method": method, "jwks_uri": "https://a.example/jwks",
            });
            let is_valid = |source| parse(&metadata, source).is_ok();
            assert_eq!(is_valid(MetadataSource::Document), of_document, "{method}");
            assert_eq!(is_valid(MetadataSource::Registration), of_registration, "{method}");
        }
    }

    #[test]
    fn a_document_with_a_private_key_has_either_public_keys_or_the_url_of_them() {
        let jwks = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519",
                                      "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }] });
        let url = json!("https://a.example/jwks");
        for (registered, published, problems) in [
            (Some(&jwks), None, vec![]),
            (None, Some(&url), vec![]),
            (None, None, vec!["jwks"]),
            (Some(&jwks), Some(&url), vec!["jwks_uri"]),
            (Some(&url), Some(&jwks), vec!["jwks", "jwks_uri"]),
        ] {
            let mut metadata = json!({
                "client_name": "A", "redirect_uris": ["https://a.example/cb"],
                "token_endpoint_auth_method": "private_key_jwt",
            });
            let members = [("jwks", registered), ("jwks_uri", published)];
            for (name, value) in members.into_iter().filter_map(|(name, it)| Some((name, it?))) {
                metadata[name] = value.clone();
            }
            let parsed = parse(&metadata, MetadataSource::Document);
            assert_eq!(parsed.err().unwrap_or_default(), problems, "{metadata}");
            metadata["token_endpoint_auth_method"] = json!("none");
            let parsed = parse(&metadata, MetadataSource::Document).expect("metadata");
            assert_eq!(parsed.keys, None);
        }
    }

    #[test]
    fn an_algorithm_for_id_tokens_that_is_not_supported_is_replaced() {
        for (algorithm, expected) in [
            ("ES256", IdTokenAlgorithm::Es256),
            ("RS256", IdTokenAlgorithm::Rs256),
            ("PS256", IdTokenAlgorithm::Rs256),
            ("none", IdTokenAlgorithm::Rs256),
        ] {
            let metadata = json!({
                "client_name": "A", "redirect_uris": ["https://a.example/cb"],
                "id_token_signed_response_alg": algorithm,
            });
            let parsed = parse(&metadata, MetadataSource::Document).expect("metadata");
            assert_eq!(parsed.id_token_algorithm, expected, "{algorithm}");
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
