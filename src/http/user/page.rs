//! Parts of a list: `offset`, `limit` and `q` read, and what is told of the part.

use crate::http::query::{Query, number};
use crate::http::user::dialect::PartOf;
use crate::model::Invalid;

/// How many items a part has where nothing else is asked for, and at most.
const DEFAULT: i64 = 20;
const MOST: i64 = 100;
/// How many items can be passed over.
const FAR: i64 = 1_000_000;
/// The longest text to search for.
const SEARCH: usize = 256;

/// Which part of a list is wanted.
pub struct Part {
    offset: i64,
    limit: i64,
    /// What names, or what else the list is known by, have to contain.
    pub search: Option<String>,
}

impl Part {
    /// Reads `offset`, `limit` and `q`; what is wrong with them is noted in `query`.
    pub fn read(query: &mut Query) -> Self {
        let offset = query.optional("offset", |text| number(text, 0, FAR)).unwrap_or(0);
        let limit = query.optional("limit", |text| number(text, 1, MOST)).unwrap_or(DEFAULT);
        Self { offset, limit, search: query.optional("q", search) }
    }

    /// How many items to pass over, and how many to take.
    #[must_use]
    pub const fn window(&self) -> (i64, i64) {
        (self.offset, self.limit)
    }

    /// What is told of the part, of a list that has `total` items.
    #[must_use]
    pub const fn of(&self, total: i64) -> PartOf {
        let has_more = self.offset + self.limit < total;
        PartOf { total, offset: self.offset, limit: self.limit, has_more }
    }
}

fn search(text: &str) -> Result<String, Invalid> {
    if text.contains(char::is_control) {
        return Err("must not contain control characters".into());
    }
    if text.chars().count() > SEARCH {
        return Err(format!("must be at most {SEARCH} characters long").into());
    }
    Ok(text.to_owned())
}
