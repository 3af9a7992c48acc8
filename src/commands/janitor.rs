//! `tenantry postgres-janitor`, hidden: stops the private Postgres once nobody uses it.

use std::path::Path;

use crate::commands::{Failure, signals};
use crate::postgres;

/// Waits until nobody uses the Postgres in `home`, stops it, and ends. Signals do not end it
/// before: those that are meant for the server often reach it too, and Postgres would then run for
/// ever.
///
/// # Errors
/// Those of the signals and of the janitor.
pub fn run(home: &Path) -> Result<(), Failure> {
    signals::ignore_all()?;
    Ok(postgres::janitor(home)?)
}
