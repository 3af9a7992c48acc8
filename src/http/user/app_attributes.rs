//! The attributes of apps in requests.

use serde_json::Value;
use utoipa::ToSchema;

use crate::http::body::{Fields, FromFields, JsonNode, text};
use crate::model::names::AppName;
use crate::model::oauth::app::{AppChanges, AppScope, AppSpec, ClientUri, are_distinct};
use crate::model::oauth::client_keys::ClientKeys;
use crate::model::oauth::redirect_uri::{MAX_REDIRECT_URIS, RedirectUri};
use crate::model::oauth::{ApplicationType, ClientAuthMethod, IdTokenAlgorithm};
use crate::model::public_key_set::{KeySetUrl, PublicKeySet};

/// The maximum number of scopes of an app.
const MAX_SCOPES: usize = 100;
/// The field that says how ID tokens are signed.
const ID_TOKEN_ALGORITHM: &str = "idTokenSignedResponseAlg";

/// The attributes of an app to register.
#[derive(ToSchema)]
#[schema(as = user::CreateAppRequest)]
#[expect(non_snake_case, dead_code, reason = "the contract's names; for the API description")]
pub struct CreateAppRequest {
    /// Its name, unique in the organization. The page that asks for consent shows it.
    #[schema(min_length = 1, max_length = 64, examples("Acme Reports"))]
    name: String,
    /// Where the responses to its requests may be sent: `https` URIs, `http` ones on localhost, and
    /// for native applications a scheme of their own with a dot.
    #[schema(min_items = 1, max_items = 10, examples("https://reports.example.com/callback"))]
    redirectUris: Vec<String>,
    /// Where it runs: `web` or `native`. Default: `web`.
    #[schema(examples("web"))]
    applicationType: Option<String>,
    /// How it authenticates: `none` (a public client), `client_secret_basic`,
    /// `client_secret_post` or `private_key_jwt`. Default: `client_secret_basic`, for a native
    /// application `none`.
    #[schema(examples("client_secret_basic"))]
    tokenEndpointAuthMethod: Option<String>,
    /// With `private_key_jwt`: its public keys (RFC 7517 §5), for RS256, ES256 or `EdDSA`.
    #[schema(value_type = Option<Object>)]
    jwks: Option<Value>,
    /// With `private_key_jwt`, in place of `jwks`: the URL at which it publishes its public keys.
    #[schema(max_length = 2048, examples("https://reports.example.com/jwks.json"))]
    jwksUri: Option<String>,
    /// How its ID tokens are signed: `RS256` (the default), or `ES256` if `OIDC_PRIVATE_KEYS` has a
    /// key for it.
    #[schema(examples("RS256"))]
    idTokenSignedResponseAlg: Option<String>,
    /// The scopes that it may request; `offline_access` for refresh tokens, `openid` for sign-in.
    #[schema(min_items = 1, max_items = 100, examples("projects:read", "offline_access"))]
    scopes: Vec<String>,
    /// Its home page, an `https` URI.
    #[schema(max_length = 2048, examples("https://reports.example.com"))]
    clientUri: Option<String>,
}

/// A parsed [`CreateAppRequest`].
pub struct CreateApp(pub AppSpec);

impl FromFields for CreateApp {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let requestable = &fields.context.config.oauth.scopes;
        let name = fields.required("name", text(AppName::parse));
        let types = choices(ApplicationType::ALL, ApplicationType::as_str);
        let application_type = fields.optional_choice("applicationType", &types);
        let application_type = application_type.unwrap_or(ApplicationType::Web);
        let redirect_uris = fields.required_items("redirectUris", 1..=MAX_REDIRECT_URIS, |node| {
            RedirectUri::parse(&node.into_string()?, application_type)
        });
        let methods = choices(ClientAuthMethod::ALL, ClientAuthMethod::as_str);
        let auth_method = fields.optional_choice("tokenEndpointAuthMethod", &methods);
        let scopes = fields.required_items("scopes", 1..=MAX_SCOPES, |node| {
            AppScope::parse(&node.into_string()?, requestable)
        });
        let client_uri = fields.optional("clientUri", text(ClientUri::parse));
        let id_token_algorithm = fields.optional_choice(ID_TOKEN_ALGORITHM, &algorithms(fields));
        check_distinct(fields, redirect_uris.as_deref(), scopes.as_deref());
        let default_method = match application_type {
            ApplicationType::Web => ClientAuthMethod::SecretBasic,
            ApplicationType::Native => ClientAuthMethod::None,
        };
        let auth_method = auth_method.unwrap_or(default_method);
        let needs_keys = auth_method == ClientAuthMethod::PrivateKeyJwt;
        let is_missing = |name| !fields.contains(name) || fields.is_null(name);
        if needs_keys && is_missing("jwks") && is_missing("jwksUri") {
            let message = "is required with private_key_jwt, unless jwksUri is sent";
            fields.add_issue("jwks", message.into());
        }
        let keys = parse_keys(fields);
        Some(Self(AppSpec {
            name: name?,
            client_uri,
            redirect_uris: redirect_uris?,
            application_type,
            auth_method,
            keys: keys.filter(|_| needs_keys),
            id_token_algorithm: id_token_algorithm.unwrap_or(IdTokenAlgorithm::Rs256),
            scopes: scopes?,
        }))
    }
}

/// Returns the values with their wire names.
fn choices<T: Copy>(all: &[T], word: impl Fn(T) -> &'static str) -> Vec<(T, &'static str)> {
    all.iter().map(|value| (*value, word(*value))).collect()
}

/// Returns the algorithms that ID tokens can be signed with.
fn algorithms(fields: &Fields<'_>) -> Vec<(IdTokenAlgorithm, &'static str)> {
    let supported = fields.context.config.oauth.id_token_algorithms();
    choices(&supported, IdTokenAlgorithm::as_str)
}

/// Parses the public keys of an app, or the URL at which it publishes them.
fn parse_keys(fields: &mut Fields<'_>) -> Option<ClientKeys> {
    let registered = fields.optional("jwks", |node| PublicKeySet::parse(&node.canonical()));
    let hosts = &fields.context.config.outbound.allowed_hosts;
    let published = fields.optional("jwksUri", text(|text| KeySetUrl::parse_allowed(text, hosts)));
    let keys = ClientKeys::of(registered, published);
    keys.map_err(|why| fields.add_issue("jwksUri", why)).ok().flatten()
}

fn check_distinct(
    fields: &mut Fields<'_>,
    uris: Option<&[RedirectUri]>,
    scopes: Option<&[AppScope]>,
) {
    if !are_distinct(uris.into_iter().flatten().map(RedirectUri::as_str)) {
        fields.add_issue("redirectUris", "must not have an item twice".into());
    }
    if !are_distinct(scopes.into_iter().flatten().map(AppScope::as_str)) {
        fields.add_issue("scopes", "must not have an item twice".into());
    }
}

/// The attributes to change, at least one. Omitted attributes keep their values.
#[derive(ToSchema)]
#[schema(as = user::UpdateAppRequest)]
#[expect(non_snake_case, dead_code, reason = "the contract's names; for the API description")]
pub struct UpdateAppRequest {
    /// Its name, unique in the organization.
    #[schema(nullable = false, min_length = 1, max_length = 64, examples("Acme Reports"))]
    name: Option<String>,
    /// Replaces its redirect URIs. All must fit the application type.
    #[schema(
        nullable = false,
        min_items = 1,
        max_items = 10,
        examples("https://reports.example.com/callback")
    )]
    redirectUris: Option<Vec<String>>,
    /// Where it runs: `web` or `native`.
    #[schema(nullable = false, examples("web"))]
    applicationType: Option<String>,
    /// How it authenticates. `none` and `private_key_jwt` delete its secrets, and the other methods
    /// its keys.
    #[schema(nullable = false, examples("client_secret_basic"))]
    tokenEndpointAuthMethod: Option<String>,
    /// With `private_key_jwt`: its public keys, in place of those that it had or published.
    #[schema(value_type = Option<Object>)]
    jwks: Option<Value>,
    /// With `private_key_jwt`: the URL at which it publishes its public keys, in place of those it
    /// had.
    #[schema(max_length = 2048, examples("https://reports.example.com/jwks.json"))]
    jwksUri: Option<String>,
    /// How its ID tokens are signed: `RS256`, or `ES256` if `OIDC_PRIVATE_KEYS` has a key for it.
    #[schema(nullable = false, examples("RS256"))]
    idTokenSignedResponseAlg: Option<String>,
    /// Replaces the scopes that it may request. Existing grants are not widened.
    #[schema(nullable = false, min_items = 1, max_items = 100, examples("projects:read"))]
    scopes: Option<Vec<String>>,
    /// Null removes it.
    #[schema(max_length = 2048, examples("https://reports.example.com"))]
    clientUri: Option<String>,
}

/// A parsed [`UpdateAppRequest`].
pub struct UpdateApp(pub AppChanges);

impl FromFields for UpdateApp {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        if fields.is_empty() {
            fields.add_body_issue("At least one setting is required");
        }
        let requestable = &fields.context.config.oauth.scopes;
        let types = choices(ApplicationType::ALL, ApplicationType::as_str);
        let methods = choices(ClientAuthMethod::ALL, ClientAuthMethod::as_str);
        let application_type = fields.non_null_choice("applicationType", &types);
        // A native application may have every URI that a web application may. If the type is not
        // changed, the URIs are checked again when it is known.
        let widest = application_type.unwrap_or(ApplicationType::Native);
        let parse_uri = |node: JsonNode| RedirectUri::parse(&node.into_string()?, widest);
        let parse_scope = |node: JsonNode| AppScope::parse(&node.into_string()?, requestable);
        let changes = AppChanges {
            name: fields.non_null("name", text(AppName::parse)),
            client_uri: fields.nullable("clientUri", text(ClientUri::parse)),
            redirect_uris: fields.non_null_items("redirectUris", 1..=MAX_REDIRECT_URIS, parse_uri),
            application_type,
            auth_method: fields.non_null_choice("tokenEndpointAuthMethod", &methods),
            keys: parse_keys(fields),
            id_token_algorithm: fields.non_null_choice(ID_TOKEN_ALGORITHM, &algorithms(fields)),
            scopes: fields.non_null_items("scopes", 1..=MAX_SCOPES, parse_scope),
        };
        check_distinct(fields, changes.redirect_uris.as_deref(), changes.scopes.as_deref());
        Some(Self(changes))
    }
}
