//! `tenantry mail …`: what the operator does about mail that could not be sent.

use crate::commands::migrate::{load_config, with_app};
use crate::commands::{Failure, print};
use crate::repo::jobs;

/// Brings back mails that were given up, those of one kind or all: a running server sends them
/// within half a minute, with new links. Prints how many.
pub fn retry(kind: Option<&str>) -> Result<(), Failure> {
    let count = with_app(load_config()?, async |app| {
        Ok(app.db.run(async |db| jobs::retry_dead(db, kind).await).await?)
    })?;
    print(&format!("{count} mails are tried again\n"))
}
