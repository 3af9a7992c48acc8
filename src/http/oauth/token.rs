//! `POST /oauth2/token` (RFC 6749 §3.2).

use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::oauth::devices::{self, require_device_client};
use crate::domain::oauth::tokens::{CodeRequest, IssuedTokens, RefreshRequest, redeem, refresh};
use crate::error::{Error, ErrorKind, Issue, OauthFailure, Result};
use crate::http::body::Form;
use crate::http::edge::context::RequestContext;
use crate::http::edge::rate_limits::count_address;
use crate::http::oauth::DEVICE_CODE_GRANT;
use crate::http::oauth::client_authentication::{ClientAuthentication, authenticate};
use crate::http::render::oauth::{
    BadTokenRequest, ClientUnauthorized, NoSuchRoute, TooManyRequests, Unavailable,
};
use crate::http::shown_once::{JsonWithSecrets, ShownOnce};
use crate::http::switches::OauthIsOn;
use crate::model::oauth::client::OauthClient;
use crate::model::oauth::resource::Resource;
use crate::model::oauth::{OFFLINE_ACCESS, is_pkce_verifier};
use crate::model::rate_limit::RateLimit;
use crate::model::secret::Secret;

/// The parameters of a token request. `client_secret` is for clients that authenticate in the body,
/// and `client_assertion` for those with a private key; others use HTTP Basic, or do not
/// authenticate.
#[derive(ToSchema)]
#[schema(as = oauth::TokenRequest)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct TokenRequest {
    /// `authorization_code`, `refresh_token` or `urn:ietf:params:oauth:grant-type:device_code`.
    #[schema(examples("authorization_code"))]
    grant_type: String,
    /// The code of the redirect.
    code: Option<String>,
    /// The verifier of the challenge in the authorization request (RFC 7636), 43 to 128 characters.
    code_verifier: Option<String>,
    /// The redirect URI of the authorization request. Need not be repeated.
    redirect_uri: Option<String>,
    refresh_token: Option<String>,
    /// The code with which a device polls (RFC 8628).
    device_code: Option<String>,
    /// For a refresh: some of the granted scopes, separated by spaces. Default: all.
    scope: Option<String>,
    /// Some of the granted resources (RFC 8707). Default: all.
    resource: Option<Vec<String>>,
    #[serde(flatten)]
    client: ClientAuthentication,
}

/// The tokens (RFC 6749 §5.1).
#[derive(Serialize, ToSchema)]
#[schema(as = oauth::Tokens)]
pub struct TokenResponse {
    #[schema(value_type = String,
             examples("tnt_oauth_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    access_token: ShownOnce,
    /// `Bearer`.
    #[schema(examples("Bearer"))]
    token_type: &'static str,
    /// For how many seconds the access token is valid.
    #[schema(examples(900))]
    expires_in: u64,
    /// The granted scopes, separated by spaces.
    #[schema(examples("projects:read offline_access"))]
    scope: String,
    /// The next refresh token. Absent without `offline_access`.
    #[serde(skip_serializing_if = "ShownOnce::is_hidden")]
    #[schema(value_type = Option<String>, nullable = false)]
    refresh_token: ShownOnce,
    /// Who signed in, as a signed JWT (`OpenID` Connect Core §2). Absent without `openid`.
    #[serde(skip_serializing_if = "ShownOnce::is_hidden")]
    #[schema(value_type = Option<String>, nullable = false)]
    id_token: ShownOnce,
    /// The organization in which the tokens work. Absent if they are about the account alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("org_79d0fHwDRh"))]
    organization_id: Option<String>,
}

impl From<IssuedTokens> for TokenResponse {
    fn from(issued: IssuedTokens) -> Self {
        Self {
            access_token: issued.access_token.into(),
            token_type: "Bearer",
            expires_in: issued.expires_in,
            scope: issued.scopes.join(" "),
            refresh_token: issued.refresh_token.map_or(ShownOnce::NONE, Into::into),
            id_token: issued.id_token.map_or(ShownOnce::NONE, Into::into),
            organization_id: issued.organization_handle,
        }
    }
}

/// Exchange an authorization code, a refresh token or a device code for an access token.
///
/// A code is valid once, for 60 seconds. Each refresh gives a new refresh token; repeating the
/// request within `OAUTH_REFRESH_GRACE` seconds gives the same one. Using a refresh token after
/// that, or after its successor was used, ends the grant. A device polls with its code, at the
/// `interval` of the device authorization response, until the person has answered. Unknown
/// parameters are ignored.
#[utoipa::path(post, path = "/oauth2/token", operation_id = "issueToken", tag = "oauth",
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    security((), ("client_basic" = [])),
    responses((status = 200, description = "The tokens.", body = TokenResponse), BadTokenRequest,
              ClientUnauthorized, NoSuchRoute, TooManyRequests, Unavailable))]
pub(super) async fn issue(
    State(app): State<App>,
    _: OauthIsOn,
    context: RequestContext,
    headers: HeaderMap,
    form: Form,
) -> Result<JsonWithSecrets<TokenResponse>> {
    let client = authenticate(&app, &context, &headers, &form).await?;
    let issued = exchange(&app, &client, &form, &context).await.inspect_err(|error| {
        if *error.kind() == ErrorKind::Oauth(OauthFailure::InvalidGrant) {
            let _ = count_address(&app, &context, RateLimit::UnknownKeys);
        }
    })?;
    Ok(JsonWithSecrets(issued.into()))
}

async fn exchange(
    app: &App,
    client: &OauthClient,
    form: &Form,
    context: &RequestContext,
) -> Result<IssuedTokens> {
    let audit = context.audit_context();
    match form.require("grant_type")? {
        "authorization_code" => redeem(app, client, &code_request(form)?, &audit).await,
        "refresh_token" => refresh(app, client, &refresh_request(client, form)?, &audit).await,
        DEVICE_CODE_GRANT => {
            require_device_client(client)?;
            let device_code = Secret::new(form.require("device_code")?.to_owned());
            devices::redeem(app, client, (&device_code, &resources(form)?), &audit).await
        }
        _ => {
            let message = "`grant_type` must be authorization_code, refresh_token or \
                           urn:ietf:params:oauth:grant-type:device_code";
            Err(Error::new(ErrorKind::Oauth(OauthFailure::UnsupportedGrantType), message))
        }
    }
}

/// Returns the parameters of a code's redemption, or every problem with them.
fn code_request(form: &Form) -> Result<CodeRequest> {
    let mut issues = Vec::new();
    let code = form.get("code");
    if code.is_none() {
        issues.push(Issue::field("code", "is required"));
    }
    let verifier = form.get("code_verifier");
    match verifier {
        None => issues.push(Issue::field("code_verifier", "is required")),
        Some(text) if !is_pkce_verifier(text) => {
            let message = "must be 43 to 128 letters, digits, -, ., _ and ~";
            issues.push(Issue::field("code_verifier", message));
        }
        Some(_) => {}
    }
    let (Some(code), Some(verifier), true) = (code, verifier, issues.is_empty()) else {
        return Err(Error::invalid(issues));
    };
    Ok(CodeRequest {
        code: Secret::new(code.to_owned()),
        verifier: Secret::new(verifier.to_owned()),
        redirect_uri: form.get("redirect_uri").map(str::to_owned),
        resources: resources(form)?,
    })
}

fn refresh_request(client: &OauthClient, form: &Form) -> Result<RefreshRequest> {
    let refresh_token = Secret::new(form.require("refresh_token")?.to_owned());
    if !client.may_request(OFFLINE_ACCESS) {
        let message = "This client may not use refresh tokens";
        return Err(Error::new(ErrorKind::Oauth(OauthFailure::UnauthorizedClient), message));
    }
    let words =
        |text: &str| text.split(' ').filter(|it| !it.is_empty()).map(str::to_owned).collect();
    let scopes = form.get("scope").map(words);
    Ok(RefreshRequest { refresh_token, scopes, resources: resources(form)? })
}

fn resources(form: &Form) -> Result<Vec<Resource>> {
    let parsed: std::result::Result<Vec<_>, _> =
        form.get_all("resource").map(Resource::parse).collect();
    let unknown =
        |_| Error::new(ErrorKind::Oauth(OauthFailure::InvalidTarget), "A resource is not a URI");
    parsed.map_err(unknown)
}
