//! The documents by which clients find the authorization server and this API: RFC 8414, `OpenID`
//! Connect Discovery and RFC 9728. They state only what works.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::config::oauth::OauthSettings;
use crate::error::{Error, Result};
use crate::http::oauth::DEVICE_CODE_GRANT;
use crate::http::public_document::PublicDocument;
use crate::http::render::problem::Problem;
use crate::http::switches::OauthIsOn;
use crate::model::oauth::authorization_request::Prompt;
use crate::model::oauth::{ClientAuthMethod, IdTokenAlgorithm, OFFLINE_ACCESS, OpenidScope};
use crate::model::public_key_set::SIGNATURE_ALGORITHMS;

/// The claims of ID tokens, and those of the userinfo endpoint.
const CLAIMS: [&str; 16] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "auth_time",
    "nonce",
    "sid",
    "at_hash",
    "amr",
    "organization_id",
    "organization_role",
    "name",
    "updated_at",
    "email",
    "email_verified",
];

/// The metadata of the authorization server (RFC 8414 §2), which is an `OpenID` provider as well
/// (`OpenID` Connect Discovery §3).
#[derive(Serialize, ToSchema)]
#[schema(as = oauth::ServerMetadata)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts of the specifications")]
pub struct ServerMetadata {
    /// `PUBLIC_URL` without a trailing slash. `iss` of each redirect is the same.
    #[schema(examples("https://api.example.com"))]
    issuer: String,
    #[schema(examples("https://api.example.com/oauth2/authorize"))]
    authorization_endpoint: String,
    #[schema(examples("https://api.example.com/oauth2/token"))]
    token_endpoint: String,
    #[schema(examples("https://api.example.com/oauth2/revoke"))]
    revocation_endpoint: String,
    #[schema(examples("https://api.example.com/oauth2/userinfo"))]
    userinfo_endpoint: String,
    #[schema(examples("https://api.example.com/oauth2/introspect"))]
    introspection_endpoint: String,
    /// Absent while `OAUTH_DCR` is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("https://api.example.com/oauth2/register"))]
    registration_endpoint: Option<String>,
    #[schema(examples("https://api.example.com/oauth2/device_authorization"))]
    device_authorization_endpoint: String,
    #[schema(examples("https://api.example.com/.well-known/jwks.json"))]
    jwks_uri: String,
    /// What clients may request: the scopes of `OpenID` Connect and `offline_access` included.
    #[schema(examples("projects:read"))]
    scopes_supported: Vec<String>,
    #[schema(examples("code"))]
    response_types_supported: [&'static str; 1],
    #[schema(examples("query"))]
    response_modes_supported: [&'static str; 2],
    #[schema(examples("authorization_code"))]
    grant_types_supported: [&'static str; 3],
    #[schema(examples("S256"))]
    code_challenge_methods_supported: [&'static str; 1],
    #[schema(examples("none"))]
    token_endpoint_auth_methods_supported: Vec<&'static str>,
    #[schema(examples("none"))]
    revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    #[schema(examples("none"))]
    introspection_endpoint_auth_methods_supported: Vec<&'static str>,
    /// The algorithms that clients may sign assertions with. The same at the other two endpoints.
    #[schema(examples("RS256"))]
    token_endpoint_auth_signing_alg_values_supported: [&'static str; 4],
    #[schema(examples("RS256"))]
    revocation_endpoint_auth_signing_alg_values_supported: [&'static str; 4],
    #[schema(examples("RS256"))]
    introspection_endpoint_auth_signing_alg_values_supported: [&'static str; 4],
    authorization_response_iss_parameter_supported: bool,
    #[schema(examples("public"))]
    subject_types_supported: [&'static str; 1],
    #[schema(examples("RS256"))]
    id_token_signing_alg_values_supported: Vec<&'static str>,
    /// The claims of ID tokens and of the userinfo endpoint.
    #[schema(examples("sub"))]
    claims_supported: &'static [&'static str],
    claims_parameter_supported: bool,
    request_parameter_supported: bool,
    request_uri_parameter_supported: bool,
    #[schema(examples("none"))]
    prompt_values_supported: Vec<&'static str>,
    /// Absent while `OAUTH_CIMD` is off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    client_id_metadata_document_supported: bool,
    /// This API, and the services of `OAUTH_RESOURCES`.
    #[schema(examples("https://api.example.com"))]
    protected_resources: Vec<String>,
    #[schema(examples("https://api.example.com/docs"))]
    service_documentation: String,
}

impl From<&OauthSettings> for ServerMetadata {
    fn from(settings: &OauthSettings) -> Self {
        let (issuer, registration) = (&settings.issuer, settings.registration.is_on());
        let methods: Vec<_> = ClientAuthMethod::ALL.iter().map(|it| it.as_str()).collect();
        let algorithms = settings.id_token_algorithms().into_iter().map(IdTokenAlgorithm::as_str);
        let resources =
            settings.services.iter().map(|service| service.resource.as_str().to_owned());
        let openid = OpenidScope::ALL.iter().map(|scope| scope.as_str().to_owned());
        let scopes = openid.chain(settings.scopes.iter().map(ToString::to_string));
        Self {
            authorization_endpoint: format!("{issuer}/oauth2/authorize"),
            token_endpoint: format!("{issuer}/oauth2/token"),
            revocation_endpoint: format!("{issuer}/oauth2/revoke"),
            userinfo_endpoint: format!("{issuer}/oauth2/userinfo"),
            introspection_endpoint: format!("{issuer}/oauth2/introspect"),
            registration_endpoint: registration.then(|| format!("{issuer}/oauth2/register")),
            device_authorization_endpoint: format!("{issuer}/oauth2/device_authorization"),
            jwks_uri: format!("{issuer}/.well-known/jwks.json"),
            scopes_supported: scopes.chain([OFFLINE_ACCESS.to_owned()]).collect(),
            response_types_supported: ["code"],
            response_modes_supported: ["query", "form_post"],
            grant_types_supported: ["authorization_code", "refresh_token", DEVICE_CODE_GRANT],
            code_challenge_methods_supported: ["S256"],
            token_endpoint_auth_methods_supported: methods.clone(),
            revocation_endpoint_auth_methods_supported: methods.clone(),
            introspection_endpoint_auth_methods_supported: methods,
            token_endpoint_auth_signing_alg_values_supported: SIGNATURE_ALGORITHMS,
            revocation_endpoint_auth_signing_alg_values_supported: SIGNATURE_ALGORITHMS,
            introspection_endpoint_auth_signing_alg_values_supported: SIGNATURE_ALGORITHMS,
            authorization_response_iss_parameter_supported: true,
            subject_types_supported: ["public"],
            id_token_signing_alg_values_supported: algorithms.collect(),
            claims_supported: &CLAIMS,
            claims_parameter_supported: false,
            request_parameter_supported: false,
            request_uri_parameter_supported: false,
            prompt_values_supported: Prompt::ALL.iter().map(|prompt| prompt.as_str()).collect(),
            client_id_metadata_document_supported: settings.accepts_documents,
            protected_resources: [issuer.clone()].into_iter().chain(resources).collect(),
            service_documentation: format!("{issuer}/docs"),
            issuer: issuer.clone(),
        }
    }
}

/// The metadata of this API as a protected resource (RFC 9728 §2).
#[derive(Serialize, ToSchema)]
#[schema(as = oauth::ResourceMetadata)]
pub struct ResourceMetadata {
    #[schema(examples("https://api.example.com"))]
    resource: String,
    #[schema(examples("https://api.example.com"))]
    authorization_servers: [String; 1],
    #[schema(examples("projects:read"))]
    scopes_supported: Vec<String>,
    #[schema(examples("header"))]
    bearer_methods_supported: [&'static str; 1],
    #[schema(examples("Tenantry"))]
    resource_name: &'static str,
    #[schema(examples("https://api.example.com/docs"))]
    resource_documentation: String,
}

impl From<&OauthSettings> for ResourceMetadata {
    fn from(settings: &OauthSettings) -> Self {
        let issuer = &settings.issuer;
        Self {
            resource: issuer.clone(),
            authorization_servers: [issuer.clone()],
            scopes_supported: settings.scopes.iter().map(ToString::to_string).collect(),
            bearer_methods_supported: ["header"],
            resource_name: "Tenantry",
            resource_documentation: format!("{issuer}/docs"),
        }
    }
}

/// Show where the authorization server is and what it supports (RFC 8414).
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server",
    operation_id = "getAuthorizationServerMetadata", tag = "oauth",
    responses((status = 200, description = "The metadata.", body = ServerMetadata),
              (status = 304, description = "It has not changed (`If-None-Match`)."),
              (status = 404, description = "`OAUTH` is off.", body = Problem,
               content_type = "application/problem+json")))]
pub async fn authorization_server(
    _: OauthIsOn,
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<Response> {
    respond(&ServerMetadata::from(&app.config.oauth), &headers)
}

/// Show where the `OpenID` provider is and what it supports (`OpenID` Connect Discovery).
///
/// The document is the same as that of the authorization server.
#[utoipa::path(get, path = "/.well-known/openid-configuration",
    operation_id = "getOpenidConfiguration", tag = "oauth",
    responses((status = 200, description = "The metadata.", body = ServerMetadata),
              (status = 304, description = "It has not changed (`If-None-Match`)."),
              (status = 404, description = "`OAUTH` is off.", body = Problem,
               content_type = "application/problem+json")))]
pub async fn openid_provider(
    switch: OauthIsOn,
    app: State<App>,
    headers: HeaderMap,
) -> Result<Response> {
    authorization_server(switch, app, headers).await
}

/// Show which authorization server gives access to this API (RFC 9728).
///
/// `WWW-Authenticate` of a 401 or 403 names this document.
#[utoipa::path(get, path = "/.well-known/oauth-protected-resource",
    operation_id = "getProtectedResourceMetadata", tag = "oauth",
    responses((status = 200, description = "The metadata.", body = ResourceMetadata),
              (status = 304, description = "It has not changed (`If-None-Match`)."),
              (status = 404, description = "`OAUTH` is off.", body = Problem,
               content_type = "application/problem+json")))]
pub async fn protected_resource(
    _: OauthIsOn,
    State(app): State<App>,
    headers: HeaderMap,
) -> Result<Response> {
    respond(&ResourceMetadata::from(&app.config.oauth), &headers)
}

fn respond(document: &impl Serialize, headers: &HeaderMap) -> Result<Response> {
    let text = serde_json::to_vec(document).map_err(Error::internal)?;
    Ok(PublicDocument::new("application/json", text).respond(headers))
}
