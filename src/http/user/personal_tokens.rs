//! `/api/auth/api-key/…`: personal access tokens, in a session only.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::personal_tokens::{self, MintedToken, TokenSpec};
use crate::error::{Error, Result};
use crate::http::body::{Fields, FromFields, JsonBody, Node, text};
use crate::http::caller::InSession;
use crate::http::context::RequestContext;
use crate::http::idempotency::{Idempotency, IdempotencyHeader, Reply};
use crate::http::limits;
use crate::http::query::Query;
use crate::http::user::dialect::{
    BadRequest, Conflict, DONE, Done, Forbidden, Listed, NotFound, Reused, Success, TooLarge,
    Unauthorized, Unavailable, UnsupportedMediaType,
};
use crate::http::user::page::Part;
use crate::http::user::wire::start;
use crate::http::wire::Timestamp;
use crate::model::Invalid;
use crate::model::ids::{AccountId, KeyId};
use crate::model::key_name::KeyName;
use crate::model::org_handle::OrgHandle;
use crate::model::personal_token::PersonalToken;
use crate::model::scope::ScopeSet;
use crate::repo;

/// The longest label.
const NAME: usize = 64;
/// The shortest and the longest life of a token, in seconds.
const LIFE: std::ops::RangeInclusive<i32> = 60..=31_536_000;

/// What a token is to be.
#[derive(ToSchema)]
#[schema(as = user::CreateTokenRequest)]
#[expect(non_snake_case, reason = "the contract's name")]
pub struct CreateRequest {
    #[schema(value_type = String, min_length = 1, max_length = 64, examples("CI deploy bot"))]
    name: KeyName,
    /// In how many seconds it ends; never, where left out, unless the operator demands an end.
    #[schema(value_type = Option<i32>, minimum = 60, maximum = 31_536_000,
             examples(2_592_000))]
    expiresIn: Option<TimeDelta>,
    /// What it may do.
    #[schema(value_type = Vec<String>, min_items = 1,
             examples("user:read", "projects:read", "projects:write"))]
    scopes: ScopeSet,
    /// Where it may do it: an organization that it is pinned to.
    #[schema(value_type = Option<TokenMetadata>)]
    metadata: Option<TokenMetadata>,
}

/// Where a token works.
#[derive(ToSchema)]
#[schema(as = user::TokenMetadata)]
#[expect(non_snake_case, reason = "the contract's name")]
pub struct TokenMetadata {
    /// The organization that it is pinned to.
    #[schema(examples("org_79d0fHwDRh"))]
    organizationId: Option<String>,
}

impl FromFields for CreateRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let config = fields.rules.config;
        let longest = config.accounts.token_lifetime;
        let most = longest.and_then(|days| i32::try_from(days.num_seconds()).ok());
        let most = most.unwrap_or(*LIFE.end());
        let life = |node: Node| node.into_whole(*LIFE.start()..=most);
        let name = fields.required("name", text(|it| KeyName::parse(it, NAME)));
        let expires_in = if longest.is_some() {
            fields.required("expiresIn", life).map(Some)
        } else {
            Some(fields.optional("expiresIn", life))
        };
        let scopes = |node: Node| config.keys.scopes.parse(&node.into_texts()?);
        let scopes = fields.required("scopes", scopes);
        let metadata = fields.optional("metadata", metadata);
        Some(Self {
            name: name?,
            expiresIn: expires_in?.map(|seconds| TimeDelta::seconds(seconds.into())),
            scopes: scopes?,
            metadata,
        })
    }
}

fn metadata(node: Node) -> Result<TokenMetadata, Invalid> {
    let mut members = node.into_members()?;
    let organization = members.remove("organizationId").filter(|it| !matches!(it, Node::Null));
    let organization = organization.map(Node::into_text).transpose();
    let organization = organization.map_err(|_| "has an organizationId that is no string")?;
    if members.is_empty() {
        Ok(TokenMetadata { organizationId: organization })
    } else {
        Err("takes organizationId and nothing else".into())
    }
}

/// A token just made, with its text.
#[derive(Serialize, ToSchema)]
#[schema(as = user::MintedToken)]
#[serde(rename_all = "camelCase")]
pub struct Minted {
    #[serde(flatten)]
    token: Token,
    /// The token's text. It is shown here and never again, not even in a replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("tnt_pat_LfbRIlFWtazFQaLw2C05IBTuoKX0BsLFZ5XOHmkSJ8Q0aV3xYz"))]
    key: Option<String>,
    /// Whether it has no end.
    never_expires: bool,
}

/// What is told about a token: everything but its text.
#[derive(Serialize, ToSchema)]
#[schema(as = user::Token)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    #[schema(examples("CI deploy bot"))]
    name: String,
    /// What its text starts with: the prefix and 4 characters.
    #[schema(examples("tnt_pat_a1b2"))]
    start: String,
    #[schema(examples("user:read"))]
    scopes: Vec<String>,
    /// What the text of every personal token starts with.
    #[schema(examples("tnt_pat_"))]
    prefix: String,
    /// Always true: what is listed was not deleted.
    enabled: bool,
    /// Whose it is.
    #[schema(examples("acc_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    user_id: String,
    /// The organization that it is pinned to.
    #[schema(required, examples("org_79d0fHwDRh"))]
    organization_id: Option<String>,
    /// The same, as it was asked for; null where it is pinned to none.
    #[schema(required)]
    metadata: Option<Pin>,
    #[schema(required)]
    expires_at: Option<Timestamp>,
    /// Up to 10 seconds behind.
    #[schema(required)]
    last_used_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// Where a token works.
#[derive(Serialize, ToSchema)]
#[schema(as = user::TokenPin)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    #[schema(examples("org_79d0fHwDRh"))]
    organization_id: String,
}

impl Token {
    fn of(account: AccountId, token: PersonalToken) -> Self {
        Self {
            id: token.id.to_string(),
            name: token.name,
            start: start(&token.prefix, &token.display_id),
            scopes: token.scopes.to_stored(),
            prefix: token.prefix,
            enabled: true,
            user_id: account.to_string(),
            organization_id: token.organization_handle.clone(),
            metadata: token.organization_handle.map(|organization_id| Pin { organization_id }),
            expires_at: token.expires_at.map(Timestamp),
            last_used_at: token.last_used_at.map(Timestamp),
            created_at: Timestamp(token.created_at),
            updated_at: Timestamp(token.updated_at),
        }
    }
}

/// Make a personal access token.
///
/// It acts as its person, within its scopes; pinned to an organization, it works there only. The
/// token's text is in this answer and nowhere else. Tokens make no tokens.
#[utoipa::path(post, path = "/api/auth/api-key/create", operation_id = "createToken",
    tag = "user", request_body = CreateRequest, params(IdempotencyHeader),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "Made.", body = Success<Minted>), BadRequest,
              Unauthorized, Forbidden, Conflict, TooLarge, UnsupportedMediaType, Reused,
              Unavailable))]
pub(super) async fn create(
    State(app): State<App>,
    InSession { person, session, .. }: InSession,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: request, said }: JsonBody<CreateRequest>,
) -> Result<Response> {
    let CreateRequest { name, expiresIn, scopes, metadata } = request;
    let expires_at: Option<DateTime<Utc>> = expiresIn.map(|life| context.at + life);
    let organization = metadata.and_then(|it| it.organizationId);
    let pin = organization.clone();
    let organization = organization.map(|handle| OrgHandle::parse(&handle));
    let spec = TokenSpec { name, scopes, expires_at, organization };
    let count = limits::count_token_mint(&app, &context, person.account);
    idempotency.limit(&app, &person, &said, count).await?;
    let check = async |tx: &mut _| {
        let pin = pin.map(|handle| OrgHandle::parse(&handle));
        personal_tokens::pin(tx, &person, pin.as_ref()).await.map(|_| ())
    };
    let creating = idempotency.run_checked(&app, &person, said, check, async |tx| {
        let whose = (&*person, session);
        let MintedToken { secret, token } =
            personal_tokens::create(&app, tx, whose, spec, &context.trail()).await?;
        let never_expires = token.expires_at.is_none();
        let data = Minted { token: Token::of(person.account, token), key: None, never_expires };
        let body = Success::ok("API key created", data);
        Ok(Reply::ok(body).showing(secret, |body| &mut body.data.key))
    });
    let answer = creating.await;
    app.mail_waker.notify_one();
    answer
}

/// List the person's tokens, newest first.
#[utoipa::path(get, path = "/api/auth/api-key/list", operation_id = "listTokens", tag = "user",
    params(("offset" = Option<i64>, Query, description = "How many to pass over."),
           ("limit" = Option<i64>, Query, description = "How many at most: 1 to 100."),
           ("q" = Option<String>, Query, description = "What the name has to contain.")),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "The tokens.", body = Listed<Token>), BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    InSession { person, .. }: InSession,
    mut query: Query,
) -> Result<Json<Listed<Token>>> {
    let part = Part::read(&mut query);
    query.finish()?;
    let (search, window) = (part.search.as_deref(), part.window());
    let (tokens, total) = app
        .db
        .run(async |db| repo::personal_tokens::list(db, person.account, search, window).await)
        .await?;
    let tokens = tokens.into_iter().map(|token| Token::of(person.account, token)).collect();
    Ok(Json(Listed::ok("API keys fetched", tokens, part.of(total))))
}

/// Show one of the person's tokens.
#[utoipa::path(get, path = "/api/auth/api-key/get", operation_id = "getToken", tag = "user",
    params(("id" = String, Query, description = "The token's id.")),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "The token.", body = Success<Token>), BadRequest,
              Unauthorized, Forbidden, NotFound, Unavailable))]
pub(super) async fn show(
    State(app): State<App>,
    InSession { person, .. }: InSession,
    mut query: Query,
) -> Result<Json<Success<Token>>> {
    let id = query.required("id", |text| Ok(text.to_owned()));
    query.finish()?;
    let id = parse_id(&id.unwrap_or_default())?;
    let token = app.db.run(async |db| personal_tokens::find(db, &person, id).await).await?;
    Ok(Json(Success::ok("API key fetched", Token::of(person.account, token))))
}

fn parse_id(text: &str) -> Result<KeyId> {
    KeyId::parse(text).ok_or_else(|| Error::not_found("There is no such token"))
}

/// What to change of a token, at least one thing; what is left out stays.
#[derive(ToSchema)]
#[schema(as = user::UpdateTokenRequest)]
#[expect(non_snake_case, reason = "the contract's name")]
pub struct UpdateRequest {
    /// The token's id.
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    keyId: String,
    #[schema(value_type = Option<String>, nullable = false, min_length = 1, max_length = 64,
             examples("CI deploy bot"))]
    name: Option<KeyName>,
    /// What it may do from now on.
    #[schema(value_type = Option<Vec<String>>, nullable = false, min_items = 1,
             examples("user:read"))]
    scopes: Option<ScopeSet>,
}

impl FromFields for UpdateRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let catalogue = &fields.rules.config.keys.scopes;
        let key_id = fields.required("keyId", Node::into_text);
        if key_id.is_some() && fields.are_none() {
            fields.refuse("Name at least one setting to change");
        }
        let name = fields.changed("name", text(|it| KeyName::parse(it, NAME)));
        let scopes = fields.changed("scopes", |it| catalogue.parse(&it.into_texts()?));
        Some(Self { keyId: key_id?, name, scopes })
    }
}

/// Change a token's label and scopes.
#[utoipa::path(post, path = "/api/auth/api-key/update", operation_id = "updateToken",
    tag = "user", request_body = UpdateRequest, params(IdempotencyHeader),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "Changed.", body = Success<Token>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMediaType, Reused,
              Unavailable))]
pub(super) async fn update(
    State(app): State<App>,
    InSession { person, session, .. }: InSession,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: request, said }: JsonBody<UpdateRequest>,
) -> Result<Response> {
    let UpdateRequest { keyId, name, scopes } = request;
    let id = parse_id(&keyId)?;
    idempotency
        .run(&app, &person, said, async |tx| {
            let (whose, what) = ((&*person, session), (name.as_ref(), scopes.as_ref()));
            let token = personal_tokens::update(tx, whose, id, what, &context.trail()).await?;
            let body = Success::ok("API key updated", Token::of(person.account, token));
            Ok(Reply::ok(body))
        })
        .await
}

/// The token to end.
#[derive(ToSchema)]
#[schema(as = user::DeleteTokenRequest)]
#[expect(non_snake_case, reason = "the contract's name")]
pub struct DeleteRequest {
    /// The token's id.
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    keyId: String,
}

impl FromFields for DeleteRequest {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let key_id = fields.required("keyId", Node::into_text);
        Some(Self { keyId: key_id? })
    }
}

/// End a token at once.
#[utoipa::path(post, path = "/api/auth/api-key/delete", operation_id = "deleteToken",
    tag = "user", request_body = DeleteRequest, params(IdempotencyHeader),
    security(("session" = []), ("bearer" = [])),
    responses((status = 200, description = "It has ended.", body = Success<Done>), BadRequest,
              Unauthorized, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMediaType, Reused,
              Unavailable))]
pub(super) async fn delete(
    State(app): State<App>,
    InSession { person, session, .. }: InSession,
    context: RequestContext,
    idempotency: Idempotency,
    JsonBody { value: request, said }: JsonBody<DeleteRequest>,
) -> Result<Response> {
    let id = parse_id(&request.keyId)?;
    idempotency
        .run(&app, &person, said, async |tx| {
            personal_tokens::delete(tx, (&person, session), id, &context.trail()).await?;
            let body = Success::ok("API key deleted", DONE);
            Ok(Reply::ok(body))
        })
        .await
}
