//! `GET /me`: shows the caller.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::error::Result;
use crate::http::auth::{ApiKeysRead, Authenticated, RequiredScope};
use crate::http::onboarding::wire::Key;
use crate::http::render::onboarding::{BadRequest, Forbidden, Unauthorized, Unavailable};
use crate::repo::{key_lists, keys};

/// The caller's organization, membership and keys.
#[derive(Serialize, ToSchema)]
#[schema(as = onboarding::Me)]
pub struct Me {
    #[schema(examples("org_79d0fHwDRh"))]
    org_id: String,
    #[schema(examples("user_FuHtj0C14AaKHJq1"))]
    user_id: String,
    /// The organization's live keys, newest first, at most 1,000; without `api-keys:read` only the
    /// key of the request, if it has one.
    api_keys: Vec<Key>,
}

/// Show the caller's organization, membership and keys.
#[utoipa::path(get, path = "/me", operation_id = "getMe", tag = "onboarding",
    security(("api_key" = []), ("bearer" = []), ("session" = [])),
    responses((status = 200, description = "The caller.", body = Me), BadRequest, Unauthorized,
              Forbidden, Unavailable))]
pub(super) async fn show(
    State(app): State<App>,
    Authenticated(caller): Authenticated,
) -> Result<Json<Me>> {
    let can_list_keys = caller.authorize(ApiKeysRead::SCOPE).is_ok();
    let keys = app
        .db
        .tenant_transaction(caller.organization, async |db| {
            if can_list_keys {
                key_lists::list(db, caller.organization, (false, None), None, 1000).await
            } else {
                let Some(own) = caller.credential.key() else { return Ok(Vec::new()) };
                let own = keys::find(db, caller.organization, own.id).await?;
                Ok(own.into_iter().collect())
            }
        })
        .await?;
    Ok(Json(Me {
        org_id: caller.organization_handle.clone(),
        user_id: caller.membership_handle.clone(),
        api_keys: keys.into_iter().map(Key::from).collect(),
    }))
}
