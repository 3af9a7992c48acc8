//! Parts of a list: `offset`, `limit` and `q` read, and what is told of the part.

use crate::http::query::{Query, parse_integer};
use crate::http::user::responses::OffsetListMeta;
use crate::model::ValidationError;

/// How many items a part has where nothing else is asked for, and at most.
const DEFAULT_LIMIT: i64 = 20;
const MAX_LIMIT: i64 = 100;
/// How many items can be passed over.
const MAX_OFFSET: i64 = 1_000_000;
/// The longest text to search for.
const MAX_SEARCH_CHARS: usize = 256;

/// Which part of a list is wanted.
pub struct OffsetPage {
    offset: i64,
    limit: i64,
    /// What names, or what else the list is known by, have to contain.
    pub search: Option<String>,
}

impl OffsetPage {
    /// Reads `offset`, `limit` and `q`; what is wrong with them is noted in `query`.
    pub fn from_query(query: &mut Query) -> Self {
        let offset =
            query.optional("offset", |text| parse_integer(text, 0, MAX_OFFSET)).unwrap_or(0);
        let limit = query
            .optional("limit", |text| parse_integer(text, 1, MAX_LIMIT))
            .unwrap_or(DEFAULT_LIMIT);
        Self { offset, limit, search: query.optional("q", parse_search) }
    }

    /// How many items to pass over, and how many to take.
    #[must_use]
    pub const fn offset_and_limit(&self) -> (i64, i64) {
        (self.offset, self.limit)
    }

    /// What is told of the part, of a list that has `total` items.
    #[must_use]
    pub const fn meta(&self, total: i64) -> OffsetListMeta {
        let has_more = self.offset + self.limit < total;
        OffsetListMeta { total, offset: self.offset, limit: self.limit, has_more }
    }
}

fn parse_search(text: &str) -> Result<String, ValidationError> {
    if text.contains(char::is_control) {
        return Err("must not contain control characters".into());
    }
    if text.chars().count() > MAX_SEARCH_CHARS {
        return Err(format!("must be at most {MAX_SEARCH_CHARS} characters long").into());
    }
    Ok(text.to_owned())
}
