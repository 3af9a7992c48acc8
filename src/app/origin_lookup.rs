//! Checks whether any organization allows a browser origin to use its keys. Most cross-origin
//! requests need this lookup, including requests without a credential.

use sqlx::PgConnection;

use crate::app::batch_lookup::{BatchLookup, BatchQuery};
use crate::error::Result;
use crate::model::origin::Origin;
use crate::repo::organizations;

/// Looks up browser origins in batches.
pub type OriginLookup = BatchLookup<OriginQuery>;

/// The number of batches that may run at once.
pub const CONNECTIONS: u32 = 2;

/// Asks whether an active organization lists this origin.
pub struct OriginQuery(pub Origin);

impl BatchQuery for OriginQuery {
    type Answer = bool;
    type Shared = ();
    const NAME: &'static str = "origins";

    async fn answer(db: &mut PgConnection, (): &(), queries: &[Self]) -> Result<Vec<Option<bool>>> {
        let origins: Vec<&str> = queries.iter().map(|Self(origin)| origin.as_str()).collect();
        let listed = organizations::filter_listed_origins(db, &origins).await?;
        Ok(origins.into_iter().map(|origin| Some(listed.contains(origin))).collect())
    }
}
