//! `/api/auth/api-key/…`: manage personal access tokens. All routes require a session.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::accounts::personal_tokens::{self, CreatedToken, TokenSpec};
use crate::error::{Error, Result};
use crate::http::auth::InAnySession;
use crate::http::body::{Fields, FromFields, JsonBody, JsonNode, text};
use crate::http::edge::context::RequestContext;
use crate::http::edge::idempotency::{ChangeResponse, Idempotency, IdempotencyHeader};
use crate::http::edge::rate_limits;
use crate::http::query::Query;
use crate::http::render::user::{
    BadRequest, Conflict, Forbidden, IdempotencyReused, NotFound, TooLarge, Unauthorized,
    Unavailable, UnsupportedMediaType,
};
use crate::http::shown_once::ShownOnce;
use crate::http::user::offset_page::OffsetPage;
use crate::http::user::responses::{DONE, Done, OffsetList, Success};
use crate::http::user::wire::key_start;
use crate::http::wire::Timestamp;
use crate::model::ValidationError;
use crate::model::ids::{AccountId, KeyId};
use crate::model::names::KeyName;
use crate::model::organization_handle::OrganizationHandle;
use crate::model::personal_token::PersonalToken;
use crate::model::scope::ScopeSet;
use crate::repo;

/// The maximum length of a label.
const MAX_NAME_CHARS: usize = 64;
/// The shortest and the longest lifetime of a token, in seconds.
const LIFETIME_SECONDS: std::ops::RangeInclusive<i32> = 60..=31_536_000;

/// The attributes of a token to create.
#[derive(ToSchema)]
#[schema(as = user::CreateTokenRequest)]
#[expect(non_snake_case, reason = "the contract's name")]
pub struct CreateTokenRequest {
    #[schema(value_type = String, min_length = 1, max_length = 64, examples("CI deploy bot"))]
    name: KeyName,
    /// The lifetime in seconds. Default: no expiry. Required if the deployment limits the lifetime
    /// of tokens.
    #[schema(value_type = Option<i32>, minimum = 60, maximum = 31_536_000,
             examples(2_592_000))]
    expiresIn: Option<TimeDelta>,
    /// The scopes of the token.
    #[schema(value_type = Vec<String>, min_items = 1,
             examples("user:read", "projects:read", "projects:write"))]
    scopes: ScopeSet,
    /// The organization to pin the token to. Default: none.
    #[schema(value_type = Option<TokenMetadata>)]
    metadata: Option<TokenMetadata>,
}

/// The organization that a token is to be pinned to.
#[derive(ToSchema)]
#[schema(as = user::TokenMetadata)]
#[expect(non_snake_case, reason = "the contract's name")]
pub struct TokenMetadata {
    /// The organization's id.
    #[schema(examples("org_79d0fHwDRh"))]
    organizationId: Option<String>,
}

impl FromFields for CreateTokenRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let config = fields.context.config;
        let max_lifetime = config.accounts.token_lifetime;
        let max_seconds = max_lifetime.and_then(|days| i32::try_from(days.num_seconds()).ok());
        let max_seconds = max_seconds.unwrap_or(*LIFETIME_SECONDS.end());
        let parse_lifetime =
            |node: JsonNode| node.into_integer(*LIFETIME_SECONDS.start()..=max_seconds);
        let name = fields.required("name", text(|it| KeyName::parse_up_to(MAX_NAME_CHARS, it)));
        let expires_in = if max_lifetime.is_some() {
            fields.required("expiresIn", parse_lifetime).map(Some)
        } else {
            Some(fields.optional("expiresIn", parse_lifetime))
        };
        let scopes = |node: JsonNode| config.keys.scopes.parse(&node.into_strings()?);
        let scopes = fields.required("scopes", scopes);
        let metadata = fields.optional("metadata", parse_token_metadata);
        Some(Self {
            name: name?,
            expiresIn: expires_in?.map(|seconds| TimeDelta::seconds(seconds.into())),
            scopes: scopes?,
            metadata,
        })
    }
}

fn parse_token_metadata(node: JsonNode) -> Result<TokenMetadata, ValidationError> {
    let mut members = node.into_object()?;
    let organization = members.remove("organizationId").filter(|it| !matches!(it, JsonNode::Null));
    let organization = organization.map(JsonNode::into_string).transpose();
    let organization = organization.map_err(|_| "must contain a string as organizationId")?;
    if members.is_empty() {
        Ok(TokenMetadata { organizationId: organization })
    } else {
        Err("must contain no field but organizationId".into())
    }
}

/// A new token, with its text.
#[derive(Serialize, ToSchema)]
#[schema(as = user::MintedToken)]
#[serde(rename_all = "camelCase")]
pub struct CreateTokenResponse {
    #[serde(flatten)]
    token: Token,
    /// The token's text. Only the response that creates the token contains it; a replay does not.
    #[serde(skip_serializing_if = "ShownOnce::is_hidden")]
    #[schema(value_type = Option<String>,
             examples("tnt_pat_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    key: ShownOnce,
    /// Whether it never expires.
    never_expires: bool,
}

/// A personal access token, without its text.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Token)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    #[schema(examples("CI deploy bot"))]
    name: String,
    /// The start of its text: the prefix and 4 characters.
    #[schema(examples("tnt_pat_a1b2"))]
    start: String,
    #[schema(examples("user:read"))]
    scopes: Vec<String>,
    /// The prefix of the text of every personal access token.
    #[schema(examples("tnt_pat_"))]
    prefix: String,
    /// Always true: deleted tokens are not listed.
    enabled: bool,
    /// The id of the account.
    #[schema(examples("acc_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    user_id: String,
    /// The id of the organization that it is pinned to, if any.
    #[schema(required, examples("org_79d0fHwDRh"))]
    organization_id: Option<String>,
    /// The same in the form of the request; null if it is not pinned.
    #[schema(required)]
    metadata: Option<TokenPin>,
    #[schema(required)]
    expires_at: Option<Timestamp>,
    /// When it was last used, up to 10 seconds behind.
    #[schema(required)]
    last_used_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// The organization that a token is pinned to.
#[derive(Serialize, ToSchema)]
#[schema(as = user::TokenPin)]
#[serde(rename_all = "camelCase")]
pub struct TokenPin {
    #[schema(examples("org_79d0fHwDRh"))]
    organization_id: String,
}

impl Token {
    fn new(account: AccountId, token: PersonalToken) -> Self {
        Self {
            id: token.id.to_string(),
            name: token.name,
            start: key_start(&token.prefix, &token.display_id),
            scopes: token.scopes.to_stored(),
            prefix: token.prefix,
            enabled: true,
            user_id: account.to_string(),
            organization_id: token.organization_handle.clone(),
            metadata: token.organization_handle.map(|organization_id| TokenPin { organization_id }),
            expires_at: token.expires_at.map(Timestamp),
            last_used_at: token.last_used_at.map(Timestamp),
            created_at: Timestamp(token.created_at),
            updated_at: Timestamp(token.updated_at),
        }
    }
}

/// Create a personal access token.
///
/// It acts as its account, within its scopes. If it is pinned to an organization, it is valid there
/// only. Only this response contains the token's text. Tokens cannot create tokens.
#[utoipa::path(post, path = "/api/auth/api-key/create", operation_id = "createToken",
    tag = "user", request_body = CreateTokenRequest, params(IdempotencyHeader),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "Created.", body = Success<CreateTokenResponse>),
              BadRequest,
              Unauthorized, Forbidden, Conflict, TooLarge, UnsupportedMediaType, IdempotencyReused,
              Unavailable))]
pub(super) async fn create(
    State(app): State<App>,
    InAnySession { person, session, .. }: InAnySession,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: request, fingerprint }: JsonBody<CreateTokenRequest>,
) -> Result<Response> {
    let CreateTokenRequest { name, expiresIn, scopes, metadata } = request;
    let expires_at: Option<DateTime<Utc>> =
        expiresIn.map(|lifetime| context.received_at + lifetime);
    let organization = metadata.and_then(|it| it.organizationId);
    let pin = organization.clone();
    let organization = organization.map(|handle| OrganizationHandle::parse(&handle));
    let spec = TokenSpec { name, scopes, expires_at, organization };
    let count = rate_limits::count_token_creation(&app, &context, person.account);
    idempotency.count_unless_replay(&app, &person, &fingerprint, count).await?;
    let check = async |tx: &mut _| {
        let pin = pin.map(|handle| OrganizationHandle::parse(&handle));
        personal_tokens::find_pinned_organization(tx, &person, pin.as_ref()).await.map(|_| ())
    };
    let creating = idempotency.run_checked(&app, &person, fingerprint, check, async |tx| {
        let actor = (&*person, session);
        let CreatedToken { secret, token } =
            personal_tokens::create(&app, tx, actor, spec, &context.audit_context()).await?;
        let never_expires = token.expires_at.is_none();
        let data = CreateTokenResponse {
            token: Token::new(person.account, token),
            key: secret.into(),
            never_expires,
        };
        Ok(ChangeResponse::ok(Success::ok("API key created", data)))
    });
    let response = creating.await;
    app.mail_waker.notify_one();
    response
}

/// List the account's tokens, newest first.
#[utoipa::path(get, path = "/api/auth/api-key/list", operation_id = "listTokens", tag = "user",
    params(("offset" = Option<i64>, Query, description = "How many items to skip. Default: 0."),
           ("limit" = Option<i64>, Query, description = "Page size, 1 to 100. Default: 20."),
           ("q" = Option<String>, Query, description = "Text that the name must contain.")),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "The tokens.", body = OffsetList<Token>), BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    InAnySession { person, .. }: InAnySession,
    page: OffsetPage,
) -> Result<Json<OffsetList<Token>>> {
    let (search, window) = (page.search.as_deref(), page.offset_and_limit());
    let (tokens, total) = app
        .db
        .run(async |db| repo::personal_tokens::list(db, person.reach(), search, window).await)
        .await?;
    let tokens = tokens.into_iter().map(|token| Token::new(person.account, token)).collect();
    Ok(Json(OffsetList::ok("API keys fetched", tokens, page.meta(total))))
}

/// Show one of the account's tokens.
#[utoipa::path(get, path = "/api/auth/api-key/get", operation_id = "getToken", tag = "user",
    params(("id" = String, Query, description = "The token's id.")),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "The token.", body = Success<Token>), BadRequest,
              Unauthorized, Forbidden, NotFound, Unavailable))]
pub(super) async fn show(
    State(app): State<App>,
    InAnySession { person, .. }: InAnySession,
    mut query: Query,
) -> Result<Json<Success<Token>>> {
    let id = query.required("id", |text| Ok(text.to_owned()));
    query.finish()?;
    let id = parse_id(&id.unwrap_or_default())?;
    let token = app.db.run(async |db| personal_tokens::find(db, &person, id).await).await?;
    Ok(Json(Success::ok("API key fetched", Token::new(person.account, token))))
}

fn parse_id(text: &str) -> Result<KeyId> {
    KeyId::parse(text).ok_or_else(|| Error::not_found("There is no such token"))
}

/// The attributes to change, at least one. Omitted attributes keep their values.
#[derive(ToSchema)]
#[schema(as = user::UpdateTokenRequest)]
#[expect(non_snake_case, reason = "the contract's name")]
pub struct UpdateTokenRequest {
    /// The token's id.
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    keyId: String,
    #[schema(value_type = Option<String>, nullable = false, min_length = 1, max_length = 64,
             examples("CI deploy bot"))]
    name: Option<KeyName>,
    /// The new scopes of the token.
    #[schema(value_type = Option<Vec<String>>, nullable = false, min_items = 1,
             examples("user:read"))]
    scopes: Option<ScopeSet>,
}

impl FromFields for UpdateTokenRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let catalogue = &fields.context.config.keys.scopes;
        let key_id = fields.required("keyId", JsonNode::into_string);
        if key_id.is_some() && fields.is_empty() {
            fields.add_body_issue("At least one setting is required");
        }
        let name = fields.non_null("name", text(|it| KeyName::parse_up_to(MAX_NAME_CHARS, it)));
        let scopes = fields.non_null("scopes", |it| catalogue.parse(&it.into_strings()?));
        Some(Self { keyId: key_id?, name, scopes })
    }
}

/// Change a token's label and scopes.
#[utoipa::path(post, path = "/api/auth/api-key/update", operation_id = "updateToken",
    tag = "user", request_body = UpdateTokenRequest, params(IdempotencyHeader),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "Changed.", body = Success<Token>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMediaType,
              IdempotencyReused,
              Unavailable))]
pub(super) async fn update(
    State(app): State<App>,
    InAnySession { person, session, .. }: InAnySession,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: request, fingerprint }: JsonBody<UpdateTokenRequest>,
) -> Result<Response> {
    let UpdateTokenRequest { keyId, name, scopes } = request;
    let id = parse_id(&keyId)?;
    idempotency
        .run(&app, &person, fingerprint, async |tx| {
            let (actor, changes) = ((&*person, session), (name.as_ref(), scopes.as_ref()));
            let token =
                personal_tokens::update(tx, actor, id, changes, &context.audit_context()).await?;
            let body = Success::ok("API key updated", Token::new(person.account, token));
            Ok(ChangeResponse::ok(body))
        })
        .await
}

/// The token to delete.
#[derive(ToSchema)]
#[schema(as = user::DeleteTokenRequest)]
#[expect(non_snake_case, reason = "the contract's name")]
pub struct DeleteTokenRequest {
    /// The token's id.
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    keyId: String,
}

impl FromFields for DeleteTokenRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let key_id = fields.required("keyId", JsonNode::into_string);
        Some(Self { keyId: key_id? })
    }
}

/// Delete a token, effective immediately.
#[utoipa::path(post, path = "/api/auth/api-key/delete", operation_id = "deleteToken",
    tag = "user", request_body = DeleteTokenRequest, params(IdempotencyHeader),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "Deleted.", body = Success<Done>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMediaType,
              IdempotencyReused,
              Unavailable))]
pub(super) async fn delete(
    State(app): State<App>,
    InAnySession { person, session, .. }: InAnySession,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: request, fingerprint }: JsonBody<DeleteTokenRequest>,
) -> Result<Response> {
    let id = parse_id(&request.keyId)?;
    idempotency
        .run(&app, &person, fingerprint, async |tx| {
            personal_tokens::revoke(tx, (&person, session), id, &context.audit_context()).await?;
            let body = Success::ok("API key deleted", DONE);
            Ok(ChangeResponse::ok(body))
        })
        .await
}
