//! `/api/user/organizations`

use axum::Json;
use axum::extract::State;

use crate::app::App;
use crate::error::Result;
use crate::http::caller::AsPerson;
use crate::http::query::Query;
use crate::http::user::dialect::{BadRequest, Forbidden, Listed, Unauthorized, Unavailable};
use crate::http::user::page::Part;
use crate::http::user::wire::Organization;
use crate::repo::organizations;

/// List the organizations that the person has a seat in, with their role in each.
///
/// A token that is pinned to an organization sees that one only.
#[utoipa::path(get, path = "/api/user/organizations", operation_id = "listOrganizations",
    tag = "user",
    params(("offset" = Option<i64>, Query, description = "How many to pass over."),
           ("limit" = Option<i64>, Query, description = "How many at most: 1 to 100."),
           ("q" = Option<String>, Query, description = "What the name or id has to contain.")),
    security(("session" = []), ("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The organizations.", body = Listed<Organization>),
              BadRequest, Unauthorized, Forbidden, Unavailable))]
pub(super) async fn list(
    State(app): State<App>,
    AsPerson(person): AsPerson,
    mut query: Query,
) -> Result<Json<Listed<Organization>>> {
    let part = Part::read(&mut query);
    query.finish()?;
    let (search, window) = (part.search.as_deref(), part.window());
    let (found, total) = app
        .db
        .run(async |db| {
            organizations::list_of(db, person.account, person.pinned_to, search, window).await
        })
        .await?;
    let found = found.into_iter().map(Organization::from).collect();
    Ok(Json(Listed::ok("Organizations fetched", found, part.of(total))))
}
