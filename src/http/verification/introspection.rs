//! `POST /oauth2/introspect` (RFC 7662): whether a credential is active, for gateways, frameworks
//! and MCP servers that speak OAuth, and for a client about its own tokens.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::verification::introspection::{introspect as introspect_token, introspect_own};
use crate::error::Result;
use crate::http::body::Form;
use crate::http::edge::context::RequestContext;
use crate::http::oauth::{ClientAuthentication, authenticate_client};
use crate::http::render::oauth::{
    BadRequest, NotFound, TooLarge, Unauthorized, Unavailable, UnsupportedMediaType,
};
use crate::http::verification::check_audit_context;
use crate::http::verification::verifier::{Introspector, reject_missing_secret};
use crate::model::role::Role;
use crate::model::secret::Secret;
use crate::model::verification::{KnownCredential, OauthFacts};

/// The parameters of an introspection.
#[derive(ToSchema)]
#[schema(as = oauth::IntrospectionRequest)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct IntrospectionRequest {
    /// The text that the client presented: an organization's key, a personal access token or an
    /// OAuth access token.
    #[schema(examples("tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    token: String,
    /// Ignored.
    token_type_hint: Option<String>,
    #[serde(flatten)]
    client: ClientAuthentication,
}

/// An active credential, or `{"active": false}` alone.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = oauth::Introspection)]
pub struct Introspection {
    /// Whether the credential is valid now. Limits and quotas are not considered.
    #[schema(examples(true))]
    active: bool,
    /// Its scopes, separated by spaces. Of a token, those that its account's role permits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("docs:read docs:write"))]
    scope: Option<String>,
    /// The id of the key or personal access token; of an OAuth token, that of its client.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    client_id: Option<String>,
    /// The organization that it acts in; of an OAuth token, its account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("org_79d0fHwDRh"))]
    sub: Option<String>,
    /// The account of a personal access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("acc_4fTq0kXyT1"))]
    account_id: Option<String>,
    /// The organization in which an OAuth token acts; absent for one about its account alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("org_79d0fHwDRh"))]
    organization_id: Option<String>,
    /// The role of an OAuth token's account in that organization.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("member"))]
    role: Option<&'static str>,
    /// The services that an OAuth token is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("https://mcp.example.com"))]
    aud: Option<Vec<String>>,
    /// When it expires, in seconds since 1970; absent for one that does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples(2_095_234_602))]
    exp: Option<i64>,
    /// When it was created, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples(2_094_234_602))]
    iat: Option<i64>,
    /// `PUBLIC_URL`; for an OAuth token without a trailing slash.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("https://api.example.com"))]
    iss: Option<String>,
    /// `api_key`, `personal_token`, or `Bearer` for an OAuth token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("api_key"))]
    token_type: Option<&'static str>,
}

impl Introspection {
    /// Describes an active credential. A key or a personal access token that acts in no
    /// organization is not active.
    fn of(app: &App, credential: &KnownCredential) -> Self {
        let common = Self {
            active: true,
            scope: Some(credential.usable_scopes(&app.config.keys.scopes).join(" ")),
            exp: credential.expires_at.map(|time| time.timestamp()),
            iat: Some(credential.created_at.timestamp()),
            ..Self::default()
        };
        let account = credential.account.as_ref().map(|account| account.id.to_string());
        let organization = credential.organization.as_ref().map(|it| it.handle.clone());
        if let Some(oauth) = &credential.oauth {
            return common.with_oauth(app, oauth, (account, organization, credential));
        }
        let Some(organization) = organization else { return Self::default() };
        Self {
            client_id: Some(credential.id.to_string()),
            sub: Some(organization),
            account_id: account,
            iss: Some(app.access_tokens.issuer().to_owned()),
            token_type: Some(credential.kind.as_str()),
            ..common
        }
    }

    /// Adds the members for an OAuth token.
    fn with_oauth(
        self,
        app: &App,
        oauth: &OauthFacts,
        (account, organization, credential): (Option<String>, Option<String>, &KnownCredential),
    ) -> Self {
        Self {
            client_id: Some(oauth.client_id.clone()),
            sub: account,
            organization_id: organization,
            role: credential.role.map(Role::as_str),
            aud: Some(oauth.resources.clone()),
            iss: Some(app.config.oauth.issuer.clone()),
            token_type: Some("Bearer"),
            ..self
        }
    }
}

/// Introspect a credential (RFC 7662).
///
/// A verifier learns about keys, personal access tokens, and OAuth tokens for the services that it
/// stands for; an OAuth client, which authenticates as at the token endpoint, learns about its own
/// access tokens alone. The response is `{"active": false}` for every other credential, and for one
/// that is not valid, whatever the reason: also for a key of a suspended organization, and for a
/// key with allowed addresses, because the client's address is not known here. The request counts
/// against no limit and no quota of the organization. Unknown parameters are ignored.
#[utoipa::path(post, path = "/oauth2/introspect", operation_id = "introspect",
    tag = "verification",
    request_body(content = IntrospectionRequest,
                 content_type = "application/x-www-form-urlencoded"),
    security(("verifier" = []), ("verifier_bearer" = []), ("verifier_basic" = []),
             ("client_basic" = [])),
    responses((status = 200, description = "Whether it is active.", body = Introspection),
              BadRequest, Unauthorized, NotFound, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn introspect(
    State(app): State<App>,
    introspector: Introspector,
    context: RequestContext,
    headers: HeaderMap,
    form: Form,
) -> Result<Json<Introspection>> {
    let token = || form.require("token").map(|token| Secret::new(token.to_owned()));
    let audit = check_audit_context(&context);
    let credential = match introspector {
        Introspector::Verifier(verifier, _permit) => {
            introspect_token(&app, &verifier, &token()?, &audit).await?
        }
        Introspector::Client(_) if !names_client(&headers, &form) => {
            return Err(reject_missing_secret(&app, &context));
        }
        Introspector::Client(_permits) => {
            let client = authenticate_client(&app, &context, &headers, &form).await?;
            introspect_own(&app, &client, &token()?).await?
        }
    };
    let response = credential.map(|credential| Introspection::of(&app, &credential));
    Ok(Json(response.unwrap_or_default()))
}

fn names_client(headers: &HeaderMap, form: &Form) -> bool {
    let names_client = |name: &&str| form.get(name).is_some();
    headers.contains_key("authorization")
        || ["client_id", "client_assertion"].iter().any(names_client)
}
