//! Pages of a list: `limit` and `cursor` read, the next cursor written.

use uuid::Uuid;

use crate::app::App;
use crate::http::query::{Query, parse_integer};
use crate::model::ValidationError;
use crate::model::cursor::{PagedList, decode, encode, matches_seal};

/// How many items a page has where nothing else is asked for, and at most.
const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 100;

/// One page of one organization's list.
pub struct CursorPage {
    list: PagedList,
    organization: Uuid,
    /// How many items it has at most.
    pub limit: i64,
    /// The last item of the page before.
    pub after: Option<u128>,
}

impl CursorPage {
    /// Reads `limit` and `cursor`; what is wrong with them is noted in `query`.
    pub fn from_query(query: &mut Query, app: &App, list: PagedList, organization: Uuid) -> Self {
        let limit = query
            .optional("limit", |text| parse_integer(text, 1, MAX_LIMIT))
            .unwrap_or(DEFAULT_LIMIT);
        let after = query.optional("cursor", |text| open_cursor(text, app, list, organization));
        Self { list, organization, limit, after }
    }

    /// How many items to ask for: one more than the page has shows whether there is a next page.
    #[must_use]
    pub fn fetch_limit(&self) -> i64 {
        self.limit + 1
    }

    /// Cuts what was found to the page's size; the cursor of the next page, if there is one.
    pub fn truncate<T>(
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

/// A cursor's position, where it was sealed for this list of this organization.
fn open_cursor(
    text: &str,
    app: &App,
    list: PagedList,
    organization: Uuid,
) -> Result<u128, ValidationError> {
    let wrong = || ValidationError::from("is not a cursor of this list");
    let (position, seal) = decode(text).ok_or_else(wrong)?;
    let sealed = list.sealed_text(&organization.to_string(), position);
    let ours = app.peppers.candidates(&sealed).iter().any(|expected| matches_seal(&seal, expected));
    if ours { Ok(position) } else { Err(wrong()) }
}
