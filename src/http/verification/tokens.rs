//! `POST /v1/verify/token`: a verdict, and for a valid credential a short-lived token, which a
//! service verifies with the JWKS.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::TimeDelta;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::verification::CheckRequest;
use crate::domain::verification::tokens::{ShortLivedToken, TokenRequest, check_and_issue};
use crate::error::Result;
use crate::http::body::{Fields, FromFields, JsonBody, JsonNode, text};
use crate::http::edge::context::RequestContext;
use crate::http::render::verification::{
    BadRequest, Conflict, NotFound, TooLarge, Unauthorized, Unavailable, UnsupportedMediaType,
};
use crate::http::shown_once::{JsonWithSecrets, ShownOnce};
use crate::http::verification::check_audit_context;
use crate::http::verification::verdict::Verification;
use crate::http::verification::verifier::JsonVerifier;
use crate::http::verification::wire::{CheckedClient, parse_key};
use crate::http::wire::Timestamp;
use crate::model::ValidationError;
use crate::model::scope::Scope;
use crate::model::secret::Secret;
use crate::model::short_lived_token::{
    Audience, DEFAULT_LIFETIME, MAX_SECONDS, MIN_SECONDS, TokenScopes,
};
use crate::model::verification::RequiredScopes;

/// A check of one credential, and a token to issue.
#[derive(ToSchema)]
#[schema(as = verification::TokenRequest, examples(json!({
    "key": "tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz",
    "audience": "https://search.example.com",
    "scopes": ["docs:read"],
    "expires_in": 60,
})))]
pub struct IssueTokenRequest {
    /// The text that the client presented: an organization's key, a personal access token or an
    /// OAuth access token.
    #[schema(value_type = String, min_length = 1, max_length = 512,
             examples("tnt_live_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    key: Secret,
    /// The service that the token is for, as its `aud`. Not `tenantry`.
    #[schema(value_type = String, min_length = 1, max_length = 256,
             examples("https://search.example.com"))]
    audience: Audience,
    /// The scopes of the token, all of which the credential must have. Default: all that the
    /// credential has.
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 16,
             examples("docs:read"))]
    scopes: Option<Vec<Scope>>,
    /// The lifetime of the token in seconds. It is shorter if the credential expires earlier.
    /// Default: 60.
    #[schema(value_type = Option<i32>, minimum = 10, maximum = 300, examples(60))]
    expires_in: Option<i32>,
    /// What the verifier knows of the client.
    client: Option<CheckedClient>,
}

impl FromFields for IssueTokenRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let key = fields.required("key", parse_key);
        let audience = fields.required("audience", text(Audience::parse));
        let scopes = fields.optional("scopes", parse_scopes);
        let expires_in =
            fields.optional("expires_in", |node| node.into_integer(MIN_SECONDS..=MAX_SECONDS));
        let client = fields.optional_object("client");
        Some(Self { key: key?, audience: audience?, scopes, expires_in, client })
    }
}

fn parse_scopes(node: JsonNode) -> Result<Vec<Scope>, ValidationError> {
    let (words, max) = (node.into_strings()?, RequiredScopes::MAX);
    if !(1..=max).contains(&words.len()) {
        return Err(format!("must contain 1 to {max} scopes").into());
    }
    let scopes = words.iter().map(|word| Scope::parse(word)).collect::<Result<Vec<_>, _>>()?;
    let is_repeated = |(at, scope): (usize, &Scope)| scopes.iter().take(at).any(|it| it == scope);
    if scopes.iter().enumerate().any(is_repeated) {
        return Err("must not name a scope twice".into());
    }
    Ok(scopes)
}

impl IssueTokenRequest {
    /// Returns the credential's text, the check of it and the token to issue.
    fn into_parts(self) -> (Secret, CheckRequest, TokenRequest) {
        let Self { key, audience, scopes, expires_in, client } = self;
        let (client_address, client_origin) = CheckedClient::into_parts(client);
        let check = CheckRequest {
            scopes: scopes.clone().map(RequiredScopes::all_of).unwrap_or_default(),
            cost: 1,
            limits: Vec::new(),
            attribution: Arc::default(),
            client_address,
            client_origin,
            is_dry_run: false,
            method_and_path: ("POST".into(), "/v1/verify/token".into()),
        };
        let seconds = expires_in.map(|seconds| TimeDelta::seconds(seconds.into()));
        let token = TokenRequest {
            audience,
            scopes: scopes.map_or(TokenScopes::Own, TokenScopes::Only),
            lifetime: seconds.unwrap_or(DEFAULT_LIFETIME),
        };
        (key, check, token)
    }
}

/// The verdict on a credential, and the token for a valid one.
#[derive(Serialize, ToSchema)]
#[schema(as = verification::VerificationWithToken)]
pub struct VerificationWithToken<'a> {
    #[serde(flatten)]
    verification: Verification<'a>,
    /// The token, a JWT (`typ: at+jwt`, `alg: EdDSA`); null if `valid` is false. Tenantry itself
    /// does not accept it.
    #[schema(value_type = Option<String>, required,
             examples("eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFZERTQSIsImtpZCI6ImUxIn0.eyJpc3MiOiJodHRwczov\
                       L2FwaS5leGFtcGxlLmNvbSJ9.c2lnbmF0dXJl"))]
    token: ShownOnce,
    /// When the token expires; null if `valid` is false.
    #[schema(required)]
    expires_at: Option<Timestamp>,
}

/// Check a credential, and issue a short-lived token for a valid one.
///
/// The service that `audience` names verifies the token with the public keys of
/// `/.well-known/jwks.json`, without a request for each token. It accepts the token until
/// `expires_at`, even if the key is revoked before. The check counts as one request. Requires
/// `JWT_PRIVATE_KEYS`.
#[utoipa::path(post, path = "/v1/verify/token", operation_id = "verifyAndIssueToken",
    tag = "verification", request_body = IssueTokenRequest,
    security(("verifier" = []), ("verifier_bearer" = [])),
    responses((status = 200, description = "The verdict.", body = VerificationWithToken),
              BadRequest, Unauthorized, NotFound, Conflict, TooLarge, UnsupportedMediaType,
              Unavailable))]
pub(super) async fn issue_token(
    State(app): State<App>,
    JsonVerifier(verifier): JsonVerifier,
    context: RequestContext,
    JsonBody { value: request, .. }: JsonBody<IssueTokenRequest>,
) -> Result<Response> {
    let (key, check, token) = request.into_parts();
    let audit = check_audit_context(&context);
    let (verdict, issued) =
        check_and_issue(&app, &verifier, (&key, &check), &token, &audit).await?;
    let (token, expires_at) = match issued {
        Some(ShortLivedToken { text, expires_at }) => (text.into(), Some(Timestamp(expires_at))),
        None => (ShownOnce::NONE, None),
    };
    let verification = Verification::new(&verdict, &context.id);
    let response = VerificationWithToken { verification, token, expires_at };
    Ok(JsonWithSecrets(response).into_response())
}
