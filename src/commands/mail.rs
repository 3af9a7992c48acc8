//! `tenantry mail retry`: retries undeliverable mail.

use crate::commands::migrate::{load_config, with_app};
use crate::commands::{Failure, print};
use crate::repo::jobs;

/// Queues undeliverable mail again, of one kind or of all kinds, and prints the number of mails. A
/// running server sends it within half a minute, with new links.
pub fn retry(kind: Option<&str>) -> Result<(), Failure> {
    let count = with_app(load_config()?, async |app| {
        Ok(app.db.run(async |db| jobs::retry_dead(db, kind).await).await?)
    })?;
    print(&format!("{count} mails queued again\n"))
}
