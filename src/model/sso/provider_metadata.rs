//! Reads the metadata of an identity provider (`OpenID` Connect Discovery §3).

use std::fmt;

use serde_json::{Map, Value};
use url::Url;

use crate::model::ValidationError;
use crate::model::outbound::AllowedHosts;
use crate::model::sso::connection::ProviderMetadata;

/// The maximum length of an endpoint's URL.
const MAX_URL_LENGTH: usize = 2048;
/// The algorithms of ID tokens that are verified.
const SIGNING_ALGORITHMS: [&str; 2] = ["RS256", "ES256"];
/// The ways in which a client can present its secret.
const SECRET_BASIC: &str = "client_secret_basic";
const SECRET_POST: &str = "client_secret_post";

/// The step of the discovery that failed. Its wire name is part of the error's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscoveryStep {
    /// A URL may not be fetched, as its text alone shows.
    NotAllowedAddress,
    /// There was no response with status 200. This says nothing about what the host name is
    /// resolved to, so that a caller learns nothing about hosts inside the network.
    Unreachable,
    /// The response is no JSON object, or too large.
    BadJson,
    /// The metadata has another issuer.
    IssuerMismatch,
    /// The metadata lacks what sign-in needs.
    Incomplete,
}

impl DiscoveryStep {
    /// Returns the step's wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowedAddress => "not_allowed_address",
            Self::Unreachable => "unreachable",
            Self::BadJson => "bad_json",
            Self::IssuerMismatch => "issuer_mismatch",
            Self::Incomplete => "incomplete",
        }
    }
}

/// Why the metadata of a provider cannot be used. `Display` is a validation message that ends with
/// the step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryFailure {
    /// The step that failed.
    pub step: DiscoveryStep,
    /// What is required, beginning with "must". It contains no text that the provider sent.
    pub why: String,
}

impl fmt::Display for DiscoveryFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.why, self.step.as_str())
    }
}

impl From<DiscoveryFailure> for ValidationError {
    fn from(failure: DiscoveryFailure) -> Self {
        failure.to_string().into()
    }
}

impl DiscoveryFailure {
    /// Creates the failure of a step.
    pub fn new(step: DiscoveryStep, why: impl Into<String>) -> Self {
        Self { step, why: why.into() }
    }

    fn incomplete(why: impl Into<String>) -> Self {
        Self::new(DiscoveryStep::Incomplete, why)
    }
}

/// Reads the metadata of the provider with this issuer identifier. It can be used only if
/// the provider supports the authorization code flow, signs ID tokens with RS256 or ES256, and
/// accepts a client secret.
///
/// # Errors
/// The document cannot be used. The error names the step.
pub fn parse_metadata(
    issuer: &str,
    document: &[u8],
    allowed_hosts: &AllowedHosts,
) -> Result<ProviderMetadata, DiscoveryFailure> {
    let Ok(Value::Object(document)) = serde_json::from_slice(document) else {
        let why = "must publish its metadata as a JSON object";
        return Err(DiscoveryFailure::new(DiscoveryStep::BadJson, why));
    };
    if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
        let why = "must be exactly the issuer that the provider's metadata states";
        return Err(DiscoveryFailure::new(DiscoveryStep::IssuerMismatch, why));
    }
    let endpoint = |name| find_endpoint(&document, name, allowed_hosts);
    let required = |name| {
        endpoint(name)?.ok_or_else(|| {
            DiscoveryFailure::incomplete(format!("must publish the URL `{name}` in its metadata"))
        })
    };
    let metadata = ProviderMetadata {
        authorization_endpoint: required("authorization_endpoint")?,
        token_endpoint: required("token_endpoint")?,
        jwks_uri: required("jwks_uri")?,
        userinfo_endpoint: endpoint("userinfo_endpoint")?,
        takes_secret_in_body: takes_secret_in_body(&document)?,
    };
    require_one_of(&document, "response_types_supported", &["code"])?;
    require_one_of(&document, "grant_types_supported", &["authorization_code"])?;
    require_one_of(&document, "id_token_signing_alg_values_supported", &SIGNING_ALGORITHMS)?;
    Ok(metadata)
}

/// Returns the URL of an endpoint; `None` if the metadata does not state it.
fn find_endpoint(
    document: &Map<String, Value>,
    name: &str,
    allowed_hosts: &AllowedHosts,
) -> Result<Option<Url>, DiscoveryFailure> {
    let Some(value) = document.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let text = value.as_str().filter(|text| text.len() <= MAX_URL_LENGTH);
    let url = text.and_then(|text| Url::parse(text).ok()).ok_or_else(|| {
        DiscoveryFailure::incomplete(format!("must publish a valid URL as `{name}`"))
    })?;
    allowed_hosts.check(&url).map_err(|ValidationError(why)| {
        let why = format!("must publish another `{name}`, which {why}");
        DiscoveryFailure::new(DiscoveryStep::NotAllowedAddress, why)
    })?;
    Ok(Some(url))
}

/// Returns the texts of a list; `None` if the metadata does not state it. Other values than texts
/// are left out.
fn find_list<'a>(document: &'a Map<String, Value>, name: &str) -> Option<Vec<&'a str>> {
    let value = document.get(name).filter(|value| !value.is_null())?;
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    Some(items.iter().filter_map(Value::as_str).collect())
}

/// Checks that a list, if the metadata states it, has one of these items.
fn require_one_of(
    document: &Map<String, Value>,
    name: &str,
    accepted: &[&str],
) -> Result<(), DiscoveryFailure> {
    match find_list(document, name) {
        Some(items) if !items.iter().any(|item| accepted.contains(item)) => {
            let accepted = accepted.join(" or ");
            let why = format!("must support {accepted} (`{name}` in its metadata)");
            Err(DiscoveryFailure::incomplete(why))
        }
        _ => Ok(()),
    }
}

/// Returns whether the token endpoint takes a secret only in the body. Without a statement it takes
/// it in the header.
fn takes_secret_in_body(document: &Map<String, Value>) -> Result<bool, DiscoveryFailure> {
    let name = "token_endpoint_auth_methods_supported";
    require_one_of(document, name, &[SECRET_BASIC, SECRET_POST])?;
    let methods = find_list(document, name);
    Ok(methods.is_some_and(|methods| !methods.contains(&SECRET_BASIC)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://idp.example.com/a";

    fn document() -> Value {
        json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://idp.example.com/authorize?tenant=a",
            "token_endpoint": "https://idp.example.com/token",
            "jwks_uri": "https://keys.example.com/jwks",
            "userinfo_endpoint": "https://idp.example.com/userinfo",
            "response_types_supported": ["code", "id_token"],
            "id_token_signing_alg_values_supported": ["HS256", "RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut document = document();
        document[name] = value;
        document
    }

    fn parse(document: &Value) -> Result<ProviderMetadata, DiscoveryFailure> {
        let hosts = AllowedHosts::parse("127.0.0.1:8080").expect("a host");
        parse_metadata(ISSUER, document.to_string().as_bytes(), &hosts)
    }

    #[test]
    fn the_endpoints_are_read_and_what_is_not_stated_has_the_defaults_of_the_specification() {
        let metadata = parse(&document()).expect("metadata");
        let url = metadata.authorization_endpoint.as_str();
        assert_eq!(url, "https://idp.example.com/authorize?tenant=a");
        assert!(!metadata.takes_secret_in_body && metadata.userinfo_endpoint.is_some());
        let mut least = document();
        for name in [
            "userinfo_endpoint",
            "response_types_supported",
            "id_token_signing_alg_values_supported",
            "token_endpoint_auth_methods_supported",
        ] {
            least[name] = Value::Null;
        }
        let metadata = parse(&least).expect("metadata");
        assert!(!metadata.takes_secret_in_body && metadata.userinfo_endpoint.is_none());
        let methods = json!(["private_key_jwt", "client_secret_post"]);
        let post = parse(&with("token_endpoint_auth_methods_supported", methods));
        assert!(post.expect("metadata").takes_secret_in_body);
        parse(&with("jwks_uri", json!("http://127.0.0.1:8080/jwks"))).expect("a listed host");
    }

    #[test]
    fn what_is_no_json_object_is_rejected() {
        for text in
            ["", "{", "[]", "null", "7", "<!doctype html>", "\u{feff}{}", "{\"a\":\"\\ud800\"}"]
        {
            let failure = parse_metadata(ISSUER, text.as_bytes(), &AllowedHosts::default());
            assert_eq!(failure.expect_err(text).step, DiscoveryStep::BadJson, "{text}");
        }
        let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let failure = parse_metadata(ISSUER, nested.as_bytes(), &AllowedHosts::default());
        assert_eq!(failure.expect_err("nested").step, DiscoveryStep::BadJson);
    }

    #[test]
    fn the_issuer_is_compared_byte_for_byte() {
        for issuer in [
            json!("https://idp.example.com/a/"),
            json!("https://IDP.example.com/a"),
            json!("https://idp.example.com:443/a"),
            json!("https://idp.example.com/%61"),
            json!("https://idp.example.com"),
            json!([ISSUER]),
            Value::Null,
        ] {
            let failure = parse(&with("issuer", issuer.clone())).expect_err("another issuer");
            assert_eq!(failure.step, DiscoveryStep::IssuerMismatch, "{issuer}");
        }
    }

    #[test]
    fn metadata_without_what_sign_in_needs_is_incomplete() {
        for (name, value) in [
            ("authorization_endpoint", Value::Null),
            ("token_endpoint", Value::Null),
            ("jwks_uri", Value::Null),
            ("jwks_uri", json!("")),
            ("jwks_uri", json!("/jwks")),
            ("token_endpoint", json!(["https://idp.example.com/token"])),
            ("userinfo_endpoint", json!(7)),
            ("token_endpoint", json!(format!("https://idp.example.com/{}", "a".repeat(2048)))),
            ("response_types_supported", json!(["id_token"])),
            ("response_types_supported", json!("code")),
            ("response_types_supported", json!([])),
            ("grant_types_supported", json!(["implicit"])),
            ("id_token_signing_alg_values_supported", json!(["HS256", "none"])),
            ("token_endpoint_auth_methods_supported", json!(["private_key_jwt", "none"])),
        ] {
            let failure = parse(&with(name, value.clone())).expect_err(name);
            assert_eq!(failure.step, DiscoveryStep::Incomplete, "{name}: {value}");
            assert!(failure.why.starts_with("must ") && failure.why.contains(name), "{failure}");
        }
    }

    #[test]
    fn an_endpoint_that_may_not_be_fetched_is_rejected_without_repeating_it() {
        for name in ["authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"] {
            for url in [
                "http://idp.example.com/x",
                "https://127.0.0.1/x",
                "https://169.254.169.254/x",
                "http://127.0.0.1:8081/x",
                "https://user@idp.example.com/x",
                "https://idp.example.com/x#fragment",
                "javascript:alert(1)",
            ] {
                let failure = parse(&with(name, json!(url))).expect_err(url);
                assert_eq!(failure.step, DiscoveryStep::NotAllowedAddress, "{name}: {url}");
                assert!(!failure.why.contains(url), "{failure}");
            }
        }
    }
}
