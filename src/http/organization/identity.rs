//! `GET /v1/organization/me`: shows the caller.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Result};
use crate::http::auth::Authenticated;
use crate::http::edge::context::RequestContext;
use crate::http::organization::wire::short_prefix;
use crate::http::render::organization::{BadRequest, Forbidden, Unauthorized, Unavailable};

/// The caller's organization, and its key or personal access token.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::Identity)]
pub struct IdentityResponse {
    #[schema(examples("identity"))]
    object: &'static str,
    #[schema(examples("org_79d0fHwDRh"))]
    org_id: String,
    /// The organization's name.
    #[schema(examples("org_79d0fHwDRh"))]
    org_name: String,
    #[schema(examples("trial"))]
    plan: &'static str,
    api_key: OwnKey,
    request_id: String,
}

/// The caller's key or personal access token.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::OwnKey)]
pub struct OwnKey {
    #[schema(examples("key_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    #[schema(examples("tnt_live_a1b2"))]
    prefix: String,
    #[schema(examples("*"))]
    scopes: Vec<String>,
}

/// Show the caller's organization, and its key or personal access token.
#[utoipa::path(get, path = "/v1/organization/me", operation_id = "getIdentity",
    tag = "organization", security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The caller.", body = IdentityResponse), BadRequest,
              Unauthorized, Forbidden, Unavailable))]
pub(super) async fn show(
    Authenticated(caller): Authenticated,
    context: RequestContext,
) -> Result<Json<IdentityResponse>> {
    let key = caller.credential.key();
    let key = key.ok_or_else(|| Error::internal("the organization family accepted a session"))?;
    let api_key = OwnKey {
        id: key.id.to_string(),
        prefix: short_prefix(&key.prefix, &key.display_id),
        scopes: caller.scopes.to_stored(),
    };
    Ok(Json(IdentityResponse {
        object: "identity",
        org_id: caller.organization_handle.clone(),
        org_name: caller.organization_name.clone(),
        plan: caller.plan.as_str(),
        api_key,
        request_id: context.id.clone(),
    }))
}
