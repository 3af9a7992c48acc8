//! `tenantry mail retry`: retries jobs that were given up: mail, and reports of leaked keys.

use crate::commands::setup::{load_config, with_app};
use crate::commands::{Failure, print};
use crate::repo::jobs;

/// Queues dead jobs again, of one kind or of all kinds, and prints their number. A running server
/// runs them within half a minute; links in mails are new.
pub fn retry(kind: Option<&str>) -> Result<(), Failure> {
    let count = with_app(load_config()?, async |app| {
        Ok(app.db.run(async |db| jobs::retry_dead(db, kind).await).await?)
    })?;
    print(&format!("{count} jobs queued again\n"))
}
