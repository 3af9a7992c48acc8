//! `GET /v1/organization/me`: shows the caller.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Result};
use crate::http::auth::Authenticated;
use crate::http::edge::context::RequestContext;
use crate::http::organization::wire::short_prefix;
use crate::http::render::organization::{BadRequest, Forbidden, Unauthorized, Unavailable};
use crate::model::caller::Credential;

/// The caller's organization, and its key or personal access token, or the app that acts for a
/// person.
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
    /// Null for an app that acts for a person.
    #[schema(required)]
    api_key: Option<OwnKey>,
    /// The app that acts for a person, by OAuth. Absent for a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    app: Option<OwnApp>,
    request_id: String,
}

/// The app that acts for a person.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::OwnApp)]
pub struct OwnApp {
    #[schema(examples("app_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    client_id: String,
    /// The person's grant to it.
    #[schema(examples("grant_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    grant_id: String,
    #[schema(examples("usage:read"))]
    scopes: Vec<String>,
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
    let scopes = caller.scopes.to_stored();
    let (api_key, app) = match &caller.credential {
        Credential::Key(key, _) | Credential::PersonalToken(_, key) => {
            let prefix = short_prefix(&key.prefix, &key.display_id);
            (Some(OwnKey { id: key.id.to_string(), prefix, scopes }), None)
        }
        Credential::OauthToken(_, token) => {
            let (client_id, grant_id) = (token.client_id.clone(), token.grant.to_string());
            (None, Some(OwnApp { client_id, grant_id, scopes }))
        }
        Credential::Session(..) => {
            return Err(Error::internal("the organization family accepted a session"));
        }
    };
    Ok(Json(IdentityResponse {
        object: "identity",
        org_id: caller.organization_handle.clone(),
        org_name: caller.organization_name.clone(),
        plan: caller.plan.as_str(),
        api_key,
        app,
        request_id: context.id.clone(),
    }))
}
