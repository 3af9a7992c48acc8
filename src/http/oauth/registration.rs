//! `/oauth2/register`: clients register themselves (RFC 7591), and manage their registrations
//! (RFC 7592).

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::oauth::registration::{self, PresentedRegistration};
use crate::error::{Error, ErrorKind, Issue, OauthFailure, Result};
use crate::http::auth::{CountedRequest, PresentedCredential};
use crate::http::body::JsonMembers;
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::{
    RateLimitByAddress, RegistrationLimit, count_invalid_credential,
};
use crate::http::path::PathId;
use crate::http::render::oauth::{
    BadRequest, InvalidMetadata, JsonRequired, NoSuchRoute, RegistrationOff, TooLarge,
    TooManyRequests, Unavailable, WrongToken,
};
use crate::http::shown_once::{JsonWithSecrets, ShownOnce};
use crate::http::switches::OauthIsOn;
use crate::model::oauth::app::ClientUri;
use crate::model::oauth::client_metadata::{ClientMetadata, MetadataProblem, MetadataSource};
use crate::model::oauth::redirect_uri::RedirectUri;
use crate::model::oauth::registration::Registration;
use crate::model::secret::Secret;

/// Guard: `OAUTH_DCR` permits registration. Otherwise the request is counted, and forbidden.
pub(super) struct RegistrationIsOn;

impl FromRequestParts<App> for RegistrationIsOn {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        if app.config.oauth.registration.is_on() {
            return Ok(Self);
        }
        CountedRequest::from_request_parts(parts, app).await?;
        Err(Error::forbidden("Registration of clients is off"))
    }
}

/// Guard: the registration of the client in the path, with its registration access token.
pub(super) struct OwnRegistration {
    registration: Registration,
    presented: PresentedRegistration,
}

impl FromRequestParts<App> for OwnRegistration {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        CountedRequest::from_request_parts(parts, app).await?;
        let context = RequestContext::from_request_parts(parts, app).await?;
        let PathId(client_id) = PathId::from_request_parts(parts, app).await?;
        let presented = PresentedRegistration { client_id, token: bearer(&parts.headers)? };
        match registration::find(app, &presented).await {
            Ok(registration) => Ok(Self { registration, presented }),
            Err(error) => count_invalid_credential(app, &context, error),
        }
    }
}

/// The metadata of a client. Unknown members are ignored.
#[derive(ToSchema)]
#[schema(as = oauth::ClientMetadata)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct ClientMetadataRequest {
    /// To replace the metadata: the client's id. Ignored otherwise.
    #[schema(examples("app_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    client_id: Option<String>,
    /// Where responses may be sent: 1 to 10 URIs.
    #[schema(min_items = 1, max_items = 10, examples("https://app.example.com/callback"))]
    redirect_uris: Vec<String>,
    /// Default: the host of the first redirect URI.
    #[schema(max_length = 64, examples("Planner"))]
    client_name: Option<String>,
    #[schema(examples("https://app.example.com"))]
    client_uri: Option<String>,
    /// `web` (the default) or `native`, which may have redirect URIs with a scheme of its own.
    #[schema(examples("native"))]
    application_type: Option<String>,
    /// The scopes that the client requests if a request names none, separated by spaces.
    #[schema(examples("projects:read offline_access"))]
    scope: Option<String>,
    /// A client that asks for a secret gets `none`.
    #[schema(examples("none"))]
    token_endpoint_auth_method: Option<String>,
    /// Must contain `authorization_code`, if it is sent.
    #[schema(examples("authorization_code"))]
    grant_types: Option<Vec<String>>,
    /// Must contain `code`, if it is sent.
    #[schema(examples("code"))]
    response_types: Option<Vec<String>>,
}

/// A registered client (RFC 7591 §3.2.1).
#[derive(Serialize, ToSchema)]
#[schema(as = oauth::RegisteredClient)]
pub struct RegistrationResponse {
    #[schema(examples("app_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    client_id: String,
    /// Seconds since 1970.
    #[schema(examples(2_093_847_600_i64))]
    client_id_issued_at: i64,
    #[schema(examples("Planner"))]
    client_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("https://app.example.com"))]
    client_uri: Option<String>,
    #[schema(examples("https://app.example.com/callback"))]
    redirect_uris: Vec<String>,
    #[schema(examples("native"))]
    application_type: &'static str,
    /// `none`: the client has no secret.
    #[schema(examples("none"))]
    token_endpoint_auth_method: &'static str,
    #[schema(examples("RS256"))]
    id_token_signed_response_alg: &'static str,
    #[schema(examples("authorization_code"))]
    grant_types: [&'static str; 2],
    #[schema(examples("code"))]
    response_types: [&'static str; 1],
    /// Those of the requested scopes that this server lets clients request.
    #[schema(examples("projects:read offline_access"))]
    scope: String,
    #[schema(examples("https://api.example.com/oauth2/register/app_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    registration_client_uri: String,
    /// The token that manages the registration. Only the response to the registration has it.
    #[serde(skip_serializing_if = "ShownOnce::is_hidden")]
    #[schema(value_type = Option<String>, nullable = false, examples(
        "tnt_oauth_registration_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    registration_access_token: ShownOnce,
}

impl RegistrationResponse {
    fn new(app: &App, registration: Registration, token: ShownOnce) -> Self {
        let Registration { id, metadata, created_at } = registration;
        let algorithm = app.openid_signer.algorithm_for(metadata.id_token_algorithm);
        let uris = metadata.redirect_uris.iter().map(RedirectUri::as_str);
        Self {
            client_id: id.to_string(),
            client_id_issued_at: created_at.timestamp(),
            client_name: metadata.name,
            client_uri: metadata.client_uri.as_ref().map(ClientUri::as_str).map(str::to_owned),
            redirect_uris: uris.map(str::to_owned).collect(),
            application_type: metadata.application_type.as_str(),
            token_endpoint_auth_method: metadata.auth_method.as_str(),
            id_token_signed_response_alg: algorithm.as_str(),
            grant_types: ["authorization_code", "refresh_token"],
            response_types: ["code"],
            scope: metadata.scopes.join(" "),
            registration_client_uri: format!("{}/oauth2/register/{id}", app.config.oauth.issuer),
            registration_access_token: token,
        }
    }
}

/// Register an app without an organization (RFC 7591).
///
/// The app is a public client, and the consent page calls it unverified. It is deleted after 30
/// days without a grant. Apps can name the URL of a metadata document as `client_id` instead,
/// without registering.
#[utoipa::path(post, path = "/oauth2/register", operation_id = "registerClient", tag = "oauth",
    request_body = ClientMetadataRequest,
    security((), ("registration" = [])),
    responses((status = 201, description = "Registered.", body = RegistrationResponse),
              InvalidMetadata, WrongToken, RegistrationOff, NoSuchRoute, TooLarge, JsonRequired,
              TooManyRequests, Unavailable))]
pub(super) async fn register(
    State(app): State<App>,
    _: OauthIsOn,
    _: RegistrationIsOn,
    _: RateLimitByAddress<RegistrationLimit>,
    context: RequestContext,
    headers: HeaderMap,
    JsonMembers(members): JsonMembers,
) -> Result<(StatusCode, JsonWithSecrets<RegistrationResponse>)> {
    let (settings, token) = (&app.config.oauth.registration, bearer(&headers)?);
    if let Err(error) = registration::require_allowed(settings, token.as_ref()) {
        return count_invalid_credential(&app, &context, error);
    }
    let metadata = parse(&app, &members, None)?;
    let registered = registration::register(&app, metadata, &context.audit_context()).await?;
    let (registration, token) = registered;
    let response = RegistrationResponse::new(&app, registration, token.into());
    Ok((StatusCode::CREATED, JsonWithSecrets(response)))
}

/// Show the registration of an app (RFC 7592 §2.1), without its token.
#[utoipa::path(get, path = "/oauth2/register/{clientId}", operation_id = "getClientRegistration",
    tag = "oauth",
    params(("clientId" = String, Path, description = "The app's id.",
            example = "app_01JZ3VQ0Xb1cT4yW8mK2pa")),
    security(("registration" = [])),
    responses((status = 200, description = "The registration.", body = RegistrationResponse),
              BadRequest, WrongToken, RegistrationOff, NoSuchRoute, TooManyRequests, Unavailable))]
pub(super) async fn show(
    State(app): State<App>,
    _: OauthIsOn,
    _: RegistrationIsOn,
    own: OwnRegistration,
) -> JsonWithSecrets<RegistrationResponse> {
    respond(&app, own.registration)
}

/// Replace the metadata of an app (RFC 7592 §2.2). A member that is not sent is removed.
#[utoipa::path(put, path = "/oauth2/register/{clientId}",
    operation_id = "updateClientRegistration", tag = "oauth",
    params(("clientId" = String, Path, description = "The app's id.",
            example = "app_01JZ3VQ0Xb1cT4yW8mK2pa")),
    request_body = ClientMetadataRequest,
    security(("registration" = [])),
    responses((status = 200, description = "Replaced.", body = RegistrationResponse),
              InvalidMetadata, WrongToken, RegistrationOff, NoSuchRoute, TooLarge, JsonRequired,
              TooManyRequests, Unavailable))]
pub(super) async fn update(
    State(app): State<App>,
    _: OauthIsOn,
    _: RegistrationIsOn,
    OwnRegistration { presented, .. }: OwnRegistration,
    context: RequestContext,
    JsonMembers(members): JsonMembers,
) -> Result<JsonWithSecrets<RegistrationResponse>> {
    let metadata = parse(&app, &members, Some(&presented.client_id))?;
    let audit = context.audit_context();
    let updated = registration::update(&app, &presented, metadata, &audit).await?;
    Ok(respond(&app, updated))
}

/// Delete an app (RFC 7592 §2.3). All its grants end.
#[utoipa::path(delete, path = "/oauth2/register/{clientId}",
    operation_id = "deleteClientRegistration", tag = "oauth",
    params(("clientId" = String, Path, description = "The app's id.",
            example = "app_01JZ3VQ0Xb1cT4yW8mK2pa")),
    security(("registration" = [])),
    responses((status = 204, description = "Deleted."), BadRequest, WrongToken, RegistrationOff,
              NoSuchRoute, TooManyRequests, Unavailable))]
pub(super) async fn delete(
    State(app): State<App>,
    _: OauthIsOn,
    _: RegistrationIsOn,
    OwnRegistration { presented, .. }: OwnRegistration,
    context: RequestContext,
) -> Result<StatusCode> {
    registration::delete(&app, &presented, &context.audit_context()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn respond(app: &App, registration: Registration) -> JsonWithSecrets<RegistrationResponse> {
    JsonWithSecrets(RegistrationResponse::new(app, registration, ShownOnce::NONE))
}

fn bearer(headers: &HeaderMap) -> Result<Option<Secret>> {
    Ok(match PresentedCredential::from_headers(headers)? {
        Some(PresentedCredential::Bearer(token)) => Some(Secret::new(token.to_owned())),
        _ => None,
    })
}

/// Parses the metadata in a body. A body that replaces metadata must contain the client's own id
/// (RFC 7592 §2.2).
fn parse(app: &App, members: &Map<String, Value>, own_id: Option<&str>) -> Result<ClientMetadata> {
    let requestable = &app.config.oauth.scopes;
    let parsed = ClientMetadata::parse(members, MetadataSource::Registration, requestable);
    let named = members.get("client_id").and_then(Value::as_str);
    if own_id.is_none_or(|own| named == Some(own)) {
        return parsed.map_err(invalid);
    }
    let message = "must be the id of the client".into();
    let other_id = MetadataProblem { name: "client_id", message };
    Err(invalid([vec![other_id], parsed.err().unwrap_or_default()].concat()))
}

/// Returns the error for metadata with these problems (RFC 7591 §3.2.2).
fn invalid(problems: Vec<MetadataProblem>) -> Error {
    let is_redirect = |problem: &MetadataProblem| problem.name == "redirect_uris";
    let failure = if problems.iter().all(is_redirect) {
        OauthFailure::InvalidRedirectUri
    } else {
        OauthFailure::InvalidClientMetadata
    };
    let issue = |problem: MetadataProblem| Issue::field(problem.name, problem.message.0);
    let issues = problems.into_iter().map(issue).collect();
    Error::new(ErrorKind::Oauth(failure), "The metadata is not valid").with_issues(issues)
}
