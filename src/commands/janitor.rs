//! `tenantry postgres-janitor`, hidden: stops the private Postgres when no process uses it.

use std::path::Path;

use crate::commands::{Failure, signals};
use crate::postgres;

/// Waits until no process uses the Postgres in `home`, stops it, and returns. Signals do not end it
/// earlier: those that are meant for the server often reach it, too, and Postgres would then never
/// be stopped.
///
/// # Errors
/// Those of the signals and of the janitor.
pub fn run(home: &Path) -> Result<(), Failure> {
    signals::ignore_all()?;
    Ok(postgres::janitor(home)?)
}
