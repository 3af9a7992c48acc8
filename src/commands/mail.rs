//! `tenantry mail …`: what the operator does about mail that could not be sent.

use crate::commands::migrate::{configuration, with_app};
use crate::commands::{Failure, say};
use crate::repo::outbox;

/// Brings back mails that were given up, those of one kind or all: a running server sends them
/// within half a minute, with new links. Prints how many.
///
/// # Errors
/// The database's own.
pub fn retry(kind: Option<&str>) -> Result<(), Failure> {
    let count = with_app(configuration()?, async |app| {
        Ok(app.db.run(async |db| outbox::revive(db, kind).await).await?)
    })?;
    say(&format!("{count} mails are tried again\n"))
}
