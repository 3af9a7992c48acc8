//! `tenantry postgres-janitor`, hidden: stops the private Postgres when no process uses it.

use std::path::Path;

use crate::commands::{Failure, signals};
use crate::postgres;

/// Waits until no process uses the Postgres in `home`, then stops it. Signals are ignored: those
/// for the server often reach this process, too, and Postgres would then never be stopped.
pub fn run(home: &Path) -> Result<(), Failure> {
    signals::ignore_all()?;
    Ok(postgres::janitor(home)?)
}
