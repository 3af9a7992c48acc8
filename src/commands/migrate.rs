//! `tenantry migrate`

use crate::commands::Failure;
use crate::commands::setup::{load_config, prepare_database};
use crate::telemetry::Telemetry;

/// Applies pending migrations.
///
/// # Errors
/// The configuration is invalid, the database does not respond, or a migration fails.
pub fn run() -> Result<(), Failure> {
    let config = load_config()?;
    let telemetry = Telemetry::start(&config.telemetry)?;
    let _prepared = prepare_database(&config)?;
    tracing::info!("the schema is up to date");
    telemetry.finish();
    Ok(())
}
