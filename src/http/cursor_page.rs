//! Cursor pagination: parses `limit` and `cursor`, and creates the cursor of the next page.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::app::App;
use crate::error::Result;
use crate::http::query::{Query, parse_integer};
use crate::model::ValidationError;
use crate::model::cursor::{PagedList, decode, encode, matches_seal};
use crate::model::ids::OrganizationId;

/// The default and the maximum number of items on a page of results.
const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 100;

/// A page of results of an organization's list.
pub struct CursorPage {
    list: PagedList,
    organization: Uuid,
    limit: i64,
    /// The position of the last item of the previous page.
    after: Option<u128>,
}

impl CursorPage {
    /// Parses `limit` and `cursor`. Invalid values are recorded as issues in `query`.
    pub fn from_query(query: &mut Query, app: &App, list: PagedList, organization: Uuid) -> Self {
        let limit = query
            .optional("limit", |text| parse_integer(text, 1, MAX_LIMIT))
            .unwrap_or(DEFAULT_LIMIT);
        let after = query.optional("cursor", |text| open_cursor(text, app, list, organization));
        Self { list, organization, limit, after }
    }

    /// Reads this page and returns its items with the cursor of the next page, if there is one.
    /// `list` receives the position of the last item before the page, and the number of items to
    /// return.
    ///
    /// # Errors
    /// The errors of `list`.
    pub async fn read<T>(
        self,
        app: &App,
        position: impl Fn(&T) -> u128,
        list: impl AsyncFnOnce(&mut PgConnection, Option<u128>, i64) -> Result<Vec<T>>,
    ) -> Result<(Vec<T>, Option<String>)> {
        // One more than the limit shows whether there is a next page.
        let (organization, limit) = (OrganizationId(self.organization), self.limit + 1);
        let mut items = app
            .db
            .tenant_transaction(organization, async |db| list(db, self.after, limit).await)
            .await?;
        let cursor = self.truncate(app, &mut items, position);
        Ok((items, cursor))
    }

    /// Truncates the items to the limit. Returns the cursor of the next page, if there is one.
    fn truncate<T>(
        &self,
        app: &App,
        items: &mut Vec<T>,
        position: impl Fn(&T) -> u128,
    ) -> Option<String> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        if items.len() <= limit {
            return None;
        }
        items.truncate(limit);
        let position = position(items.last()?);
        let text = self.list.sealed_text(&self.organization.to_string(), position);
        Some(encode(position, &app.peppers.digest(&text).0))
    }
}

/// Returns the position of a cursor.
///
/// # Errors
/// If the cursor was not sealed for this list of this organization.
fn open_cursor(
    text: &str,
    app: &App,
    list: PagedList,
    organization: Uuid,
) -> std::result::Result<u128, ValidationError> {
    let invalid = || ValidationError::from("must be a cursor of this list");
    let (position, seal) = decode(text).ok_or_else(invalid)?;
    let sealed = list.sealed_text(&organization.to_string(), position);
    let candidates = app.peppers.candidates(&sealed);
    let is_valid = candidates.iter().any(|expected| matches_seal(&seal, expected));
    if is_valid { Ok(position) } else { Err(invalid()) }
}
