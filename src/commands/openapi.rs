//! `tenantry openapi`: prints the API's description.

use crate::commands::{Failure, print};
use crate::http::openapi;

/// Prints the API description as `openapi.yaml` contains it.
///
/// # Errors
/// Where it can not be written.
pub fn run() -> Result<(), Failure> {
    let yaml = openapi::yaml().map_err(|error| Failure::Message(error.to_string()))?;
    print(&yaml)
}
