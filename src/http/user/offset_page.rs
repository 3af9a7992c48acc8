//! Offset pagination: parses `offset`, `limit` and `q`, and describes the page of results.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Serialize;
use sqlx::PgConnection;

use crate::app::App;
use crate::error::{Error, Result};
use crate::http::query::{Query, parse_integer};
use crate::http::user::responses::{OffsetList, OffsetListMeta};
use crate::model::ValidationError;
use crate::model::ids::OrganizationId;

/// The default and the maximum number of items on a page of results.
const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 100;
/// The maximum number of items to skip.
const MAX_OFFSET: i64 = 1_000_000;
/// The maximum length of the search text.
const MAX_SEARCH_CHARS: usize = 256;

/// The page of results that the caller requests.
pub struct OffsetPage {
    offset: i64,
    limit: i64,
    /// The text that an item's name or other searchable fields must contain.
    pub search: Option<String>,
}

/// How many items to skip, and how many to return.
type Window = (i64, i64);

impl OffsetPage {
    /// Parses `offset`, `limit` and `q`. Invalid values are recorded as issues in `query`.
    pub fn from_query(query: &mut Query) -> Self {
        let offset =
            query.optional("offset", |text| parse_integer(text, 0, MAX_OFFSET)).unwrap_or(0);
        let limit = query
            .optional("limit", |text| parse_integer(text, 1, MAX_LIMIT))
            .unwrap_or(DEFAULT_LIMIT);
        Self { offset, limit, search: query.optional("q", parse_search) }
    }

    /// Responds with this page of a list of the organization. `list` receives the search text, the
    /// number of items to skip and the number to return; it returns the items and the size of the
    /// list.
    ///
    /// # Errors
    /// The errors of `list`.
    pub async fn respond<Row, Item: Serialize>(
        self,
        app: &App,
        organization: OrganizationId,
        (message, render): (&'static str, impl Fn(Row) -> Item),
        list: impl AsyncFnOnce(&mut PgConnection, Option<&str>, Window) -> Result<(Vec<Row>, i64)>,
    ) -> Result<Json<OffsetList<Item>>> {
        let (search, window) = (self.search.as_deref(), self.offset_and_limit());
        let (rows, total) = app
            .db
            .tenant_transaction(organization, async |db| list(db, search, window).await)
            .await?;
        let items = rows.into_iter().map(render).collect();
        Ok(Json(OffsetList::ok(message, items, self.meta(total))))
    }

    /// Returns the number of items to skip, and the number to return.
    #[must_use]
    pub const fn offset_and_limit(&self) -> Window {
        (self.offset, self.limit)
    }

    /// Describes this page of a list that has `total` items.
    #[must_use]
    pub const fn meta(&self, total: i64) -> OffsetListMeta {
        let has_more = self.offset + self.limit < total;
        OffsetListMeta { total, offset: self.offset, limit: self.limit, has_more }
    }
}

impl FromRequestParts<App> for OffsetPage {
    type Rejection = Error;

    /// Parses the parameters of a route that has no others.
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let mut query = Query::from_request_parts(parts, app).await?;
        let page = Self::from_query(&mut query);
        query.finish()?;
        Ok(page)
    }
}

fn parse_search(text: &str) -> std::result::Result<String, ValidationError> {
    if text.contains(char::is_control) {
        return Err("must not contain control characters".into());
    }
    if text.chars().count() > MAX_SEARCH_CHARS {
        return Err(format!("must be at most {MAX_SEARCH_CHARS} characters long").into());
    }
    Ok(text.to_owned())
}
