//! `tenantry openapi`: prints the API description.

use crate::commands::{Failure, print};
use crate::http::openapi;

/// Prints the API description, the contents of `openapi.yaml`.
pub fn run() -> Result<(), Failure> {
    let yaml = openapi::yaml().map_err(|error| Failure::Message(error.to_string()))?;
    print(&yaml)
}
