//! Whether some organization lets a page's scripts use its keys: what every request of a page that
//! is not ours asks, those that nobody is known to make included.

use sqlx::PgConnection;

use crate::app::batch_lookup::{BatchLookup, BatchQuery};
use crate::error::Result;
use crate::model::origin::Origin;
use crate::repo::organizations;

/// Asks whether pages are listed.
pub type OriginLookup = BatchLookup<OriginQuery>;

/// How many batches may be under way at once.
pub const CONNECTIONS: u32 = 2;

/// Whether a page is on the list of some organization that is active.
pub struct OriginQuery(pub Origin);

impl BatchQuery for OriginQuery {
    type Answer = bool;
    const NAME: &'static str = "pages";

    async fn answer(db: &mut PgConnection, asked: &[Self]) -> Result<Vec<Option<bool>>> {
        let origins: Vec<&str> = asked.iter().map(|Self(origin)| origin.as_str()).collect();
        let listed = organizations::filter_listed_origins(db, &origins).await?;
        Ok(origins.into_iter().map(|origin| Some(listed.contains(origin))).collect())
    }
}
