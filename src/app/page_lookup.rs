//! Whether some organization lets a page's scripts use its keys: what every request of a page that
//! is not ours asks, those that nobody is known to make included.

use sqlx::PgConnection;

use crate::app::lookup::{Lookup, Question};
use crate::error::Result;
use crate::model::origin::Origin;
use crate::repo::organizations;

/// Asks whether pages are on some active organization's list.
pub type PageLookup = Lookup<Origin>;

/// How many batches may be under way at once.
pub const CONNECTIONS: u32 = 1;

impl Question for Origin {
    type Answer = ();
    const NAME: &'static str = "pages";

    async fn answer(db: &mut PgConnection, asked: &[Self]) -> Result<Vec<Option<()>>> {
        let listed = organizations::listed_origins(db, asked).await?;
        Ok(asked.iter().map(|origin| listed.contains(origin.as_str()).then_some(())).collect())
    }
}
