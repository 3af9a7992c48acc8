//! `GET /v1/organization/denials`: the organization's rejected requests, with the reason.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::error::Result;
use crate::http::auth::{AuditRead, Scoped};
use crate::http::cursor_page::CursorPage;
use crate::http::edge::context::RequestContext;
use crate::http::organization::wire::CursorList;
use crate::http::query::Query;
use crate::http::render::organization::{BadRequest, Forbidden, Unauthorized, Unavailable};
use crate::http::wire::Timestamp;
use crate::model::cursor::PagedList;
use crate::model::ids::RejectionId;
use crate::model::rejection::Rejection;
use crate::repo;

/// A request that was rejected.
#[derive(Serialize, ToSchema)]
#[schema(as = organization::Denial)]
pub struct RejectedRequest {
    #[schema(examples("den_01JZ3VQ0Xb1cT4yW8mK2pa"))]
    id: String,
    #[schema(examples("denial"))]
    object: &'static str,
    created_at: Timestamp,
    /// The `display_id` of the key or personal access token; null for other credentials.
    #[schema(required, examples("a1b2c3d4"))]
    api_key_prefix: Option<String>,
    #[schema(examples("GET"))]
    method: String,
    /// The route, with the names of its parameters in braces. For a check by a verifier: the
    /// `resource` or the path of the client's request, or else the route of the check.
    #[schema(examples("/v1/organization/api-keys/{id}"))]
    path: String,
    /// The status of the response; for a check by a verifier, the status for the verifier's client.
    #[schema(examples(403))]
    status: u16,
    /// The error type, as in an error response of `/v1/organization`; for a check by a verifier,
    /// the `code` of the verdict.
    #[schema(examples("forbidden"))]
    code: String,
    /// Which scope, role or limit was the reason, or why the key was not valid.
    #[schema(examples("This credential lacks the scope api-keys:read"))]
    detail: String,
    /// The client's address.
    #[schema(required, examples("203.0.113.9"))]
    address: Option<String>,
    request_id: String,
}

impl From<Rejection> for RejectedRequest {
    fn from(rejection: Rejection) -> Self {
        Self {
            id: rejection.id.to_string(),
            object: "denial",
            created_at: Timestamp(rejection.created_at),
            api_key_prefix: rejection.key_display_id,
            method: rejection.method,
            path: rejection.path,
            status: rejection.status,
            code: rejection.code,
            detail: rejection.detail,
            address: rejection.address,
            request_id: rejection.request_id,
        }
    }
}

/// List the organization's recently rejected requests, newest first.
///
/// The list contains the newest 1,000 of the last 30 days. If many requests are rejected in a short
/// time, only some of them are recorded. Rejections by other servers appear within 10 seconds.
#[utoipa::path(get, path = "/v1/organization/denials", operation_id = "listDenials",
    tag = "organization",
    params(("limit" = Option<i64>, Query, description = "Page size, 1 to 100. Default: 20."),
           ("cursor" = Option<String>, Query, description = "The previous page's `cursor`.")),
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "A page of rejected requests.",
               body = CursorList<RejectedRequest>),
              BadRequest, Unauthorized, Forbidden, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    Scoped(caller, _): Scoped<AuditRead>,
    context: RequestContext,
    mut query: Query,
) -> Result<Json<CursorList<RejectedRequest>>> {
    let organization = caller.organization;
    let page = CursorPage::from_query(&mut query, &app, PagedList::Denials, organization.0);
    query.finish()?;
    app.rejections.flush_requests_and_log().await;
    let position = |rejection: &Rejection| rejection.id.uuid().as_u128();
    let (rows, cursor) = page
        .read(&app, position, async |db, after, limit| {
            let after = after.map(|after| RejectionId::from_uuid(Uuid::from_u128(after)));
            repo::rejections::list(db, organization, after, limit).await
        })
        .await?;
    let rejections = rows.into_iter().map(RejectedRequest::from).collect();
    Ok(Json(CursorList::new(rejections, cursor, &context.id)))
}
