//! The settings for API keys: format, peppers and scopes.

use crate::config::env::Env;
use crate::config::named_secret::{NamedSecret, parse_named_secrets};
use crate::model::ValidationError;
use crate::model::key_format::KeyFormat;
use crate::model::scope::{Scope, ScopeCatalogue};

/// The default of `CREDENTIAL_MEMORY`.
const DEFAULT_CACHE_CAPACITY: usize = 100_000;
/// The maximum of `CREDENTIAL_MEMORY`: some gigabytes.
const MAX_CACHE_CAPACITY: usize = 10_000_000;

/// The settings for API keys.
pub struct KeySettings {
    /// The format of organization keys.
    pub format: KeyFormat,
    /// The peppers that keys are digested with, newest first. Never empty in a valid configuration.
    pub peppers: Vec<NamedSecret>,
    /// The scopes that keys can have.
    pub scopes: ScopeCatalogue,
    /// Those of `scopes` that the operator added.
    pub operator_scopes: Vec<Scope>,
    /// The maximum number of answers about credentials that each kind of lookup caches.
    pub cache_capacity: usize,
    /// Whether credentials of another format are looked up among the imported keys.
    pub accepts_imported_keys: bool,
}

impl KeySettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let peppers = env.optional("KEY_PEPPERS", parse_named_secrets);
        if !env.is_set("KEY_PEPPERS") {
            env.add_problem("KEY_PEPPERS", "must be set when DATABASE_URL is set");
        }
        let scopes = env.optional("SCOPES", parse_scopes).unwrap_or_default();
        Self {
            format: key_format(env),
            peppers: peppers.unwrap_or_default(),
            scopes: ScopeCatalogue::new(&scopes),
            operator_scopes: scopes,
            cache_capacity: env
                .optional("CREDENTIAL_MEMORY", parse_cache_capacity)
                .unwrap_or(DEFAULT_CACHE_CAPACITY),
            accepts_imported_keys: env.optional("KEY_IMPORT", parse_switch).unwrap_or(false),
        }
    }
}

/// Reads `KEY_PREFIX`, the setting that an offline check of an organization key needs.
pub fn key_format(env: &mut Env<'_>) -> KeyFormat {
    env.optional("KEY_PREFIX", KeyFormat::parse).unwrap_or_default()
}

/// Parses `on` or `off`.
pub(super) fn parse_switch(text: &str) -> Result<bool, ValidationError> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be on or off".into()),
    }
}

fn parse_cache_capacity(text: &str) -> Result<usize, ValidationError> {
    let count = text.parse().ok().filter(|count| *count <= MAX_CACHE_CAPACITY);
    count.ok_or_else(|| format!("must be a number from 0 to {MAX_CACHE_CAPACITY}").into())
}

fn parse_scopes(text: &str) -> Result<Vec<Scope>, ValidationError> {
    text.split(',').map(|word| Scope::parse(word.trim())).collect()
}
