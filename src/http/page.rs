//! Pages of a list: `limit` and `cursor` read, the next cursor written.

use uuid::Uuid;

use crate::app::App;
use crate::http::query::{Query, number};
use crate::model::Invalid;
use crate::model::cursor::{List, decode, encode, is_sealed};

/// How many items a page has where nothing else is asked for, and at most.
const DEFAULT: i64 = 20;
const MOST: i64 = 100;

/// One page of one organization's list.
pub struct Page {
    list: List,
    organization: Uuid,
    /// How many items it has at most.
    pub limit: i64,
    /// The last item of the page before.
    pub after: Option<u128>,
}

impl Page {
    /// Reads `limit` and `cursor`; what is wrong with them is noted in `query`.
    pub fn read(query: &mut Query, app: &App, list: List, organization: Uuid) -> Self {
        let limit = query.optional("limit", |text| number(text, 1, MOST)).unwrap_or(DEFAULT);
        let after = query.optional("cursor", |text| open(text, app, list, organization));
        Self { list, organization, limit, after }
    }

    /// How many items to ask for: one more than the page has shows whether there is a next page.
    #[must_use]
    pub fn probe(&self) -> i64 {
        self.limit + 1
    }

    /// Cuts what was found to the page's size; the cursor of the next page, if there is one.
    pub fn cut<T>(
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
fn open(text: &str, app: &App, list: List, organization: Uuid) -> Result<u128, Invalid> {
    let wrong = || Invalid::from("is not a cursor of this list");
    let (position, seal) = decode(text).ok_or_else(wrong)?;
    let sealed = list.sealed_text(&organization.to_string(), position);
    let ours = app.peppers.candidates(&sealed).iter().any(|expected| is_sealed(&seal, expected));
    if ours { Ok(position) } else { Err(wrong()) }
}
