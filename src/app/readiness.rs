//! Whether the database is as this server needs it: asked for all who want to know at once, since
//! anybody may, as often as they like.

use sqlx::PgConnection;

use crate::app::lookup::{Lookup, Question};
use crate::error::Result;
use crate::repo::migrations;

/// Asks whether the database answers, and its schema is the one this server was built for.
pub type Readiness = Lookup<IsCurrent>;

/// How many batches may be under way at once.
pub const CONNECTIONS: u32 = 1;

/// Whether the schema is the one this server was built for.
pub struct IsCurrent;

impl Question for IsCurrent {
    type Answer = bool;
    const NAME: &'static str = "readiness";

    async fn answer(db: &mut PgConnection, asked: &[Self]) -> Result<Vec<Option<bool>>> {
        let is_current = migrations::are_current(db).await?;
        Ok(asked.iter().map(|Self| Some(is_current)).collect())
    }
}
