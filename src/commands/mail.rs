//! `tenantry mail retry`: retries mail whose delivery was given up.

use crate::commands::migrate::{load_config, with_app};
use crate::commands::{Failure, print};
use crate::repo::jobs;

/// Queues mail again whose delivery was given up, of one kind or all, and prints how many. A
/// running server sends it within half a minute, with new links.
pub fn retry(kind: Option<&str>) -> Result<(), Failure> {
    let count = with_app(load_config()?, async |app| {
        Ok(app.db.run(async |db| jobs::retry_dead(db, kind).await).await?)
    })?;
    print(&format!("{count} mails queued again\n"))
}
