//! `POST /oauth2/introspect` (RFC 7662): whether a key or a personal access token is active, for
//! gateways and frameworks that speak OAuth.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::verification::introspection::introspect as introspect_token;
use crate::error::Result;
use crate::http::body::Form;
use crate::http::edge::context::RequestContext;
use crate::http::render::oauth::{
    BadRequest, NotFound, TooLarge, Unauthorized, Unavailable, UnsupportedMediaType,
};
use crate::http::verification::check_audit_context;
use crate::http::verification::verifier::IntrospectionVerifier;
use crate::model::secret::Secret;
use crate::model::verification::KnownCredential;

/// The parameters of an introspection.
#[derive(ToSchema)]
#[schema(as = oauth::IntrospectionRequest)]
#[expect(dead_code, reason = "used only in the API description")]
pub struct IntrospectionRequest {
    /// The text that the client presented: an organization's key or a personal access token.
    #[schema(examples("tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    token: String,
    /// Ignored.
    token_type_hint: Option<String>,
}

/// An active credential, or `{"active": false}` alone.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = oauth::Introspection)]
pub struct Introspection {
    /// Whether the credential is valid now. Limits and quotas are not considered.
    #[schema(examples(true))]
    active: bool,
    /// Its scopes, separated by spaces. Of a personal access token, those that its account's role
    /// permits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("docs:read docs:write"))]
    scope: Option<String>,
    /// The id of the key or token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    client_id: Option<String>,
    /// The organization that it acts in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("org_79d0fHwDRh"))]
    sub: Option<String>,
    /// The account of a personal access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("acc_4fTq0kXyT1"))]
    account_id: Option<String>,
    /// When it expires, in seconds since 1970; absent for one that does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples(2_095_234_602))]
    exp: Option<i64>,
    /// When it was created, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples(2_094_234_602))]
    iat: Option<i64>,
    /// `PUBLIC_URL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("https://api.example.com"))]
    iss: Option<String>,
    /// `api_key` or `personal_token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("api_key"))]
    token_type: Option<&'static str>,
}

impl Introspection {
    /// Describes an active credential. One that acts in no organization is not active.
    fn of(app: &App, credential: &KnownCredential) -> Self {
        let Some(organization) = &credential.organization else { return Self::default() };
        Self {
            active: true,
            scope: Some(credential.usable_scopes(&app.config.keys.scopes).join(" ")),
            client_id: Some(credential.id.to_string()),
            sub: Some(organization.handle.clone()),
            account_id: credential.account.as_ref().map(|account| account.id.to_string()),
            exp: credential.expires_at.map(|time| time.timestamp()),
            iat: Some(credential.created_at.timestamp()),
            iss: Some(app.access_tokens.issuer().to_owned()),
            token_type: Some(credential.kind.as_str()),
        }
    }
}

/// Introspect a key or a personal access token (RFC 7662).
///
/// `{"active": false}` is the answer for every credential that is not valid, whatever the reason:
/// also for a key of a suspended organization, and for a key with allowed addresses, because the
/// client's address is not known here. The request counts against no limit and no quota of the
/// organization. Unknown parameters are ignored.
#[utoipa::path(post, path = "/oauth2/introspect", operation_id = "introspect",
    tag = "verification",
    request_body(content = IntrospectionRequest,
                 content_type = "application/x-www-form-urlencoded"),
    security(("verifier" = []), ("verifier_bearer" = []), ("verifier_basic" = [])),
    responses((status = 200, description = "Whether it is active.", body = Introspection),
              BadRequest, Unauthorized, NotFound, TooLarge, UnsupportedMediaType, Unavailable))]
pub(super) async fn introspect(
    State(app): State<App>,
    IntrospectionVerifier(verifier): IntrospectionVerifier,
    context: RequestContext,
    form: Form,
) -> Result<Json<Introspection>> {
    let token = Secret::new(form.require("token")?.to_owned());
    let audit = check_audit_context(&context);
    let credential = introspect_token(&app, &verifier, &token, &audit).await?;
    let response = credential.map(|credential| Introspection::of(&app, &credential));
    Ok(Json(response.unwrap_or_default()))
}
