//! Reads the configuration, and reports invalid variables.

use std::collections::BTreeSet;

use super::Check;
use crate::commands::setup::CLUSTER_DIR;
use crate::config::database::data_dir;
use crate::config::env::Env;
use crate::config::secrets_file::FeatureSecret;
use crate::config::{Config, ConfigError, secrets_file};
use crate::entropy::SystemEntropy;

/// The configuration, with defaults for invalid variables.
pub(super) struct DoctorSettings {
    /// The configuration. Invalid variables are treated as not set.
    pub config: Config,
    /// Whether `DATABASE_URL` is not set, so that a private Postgres is used.
    pub uses_private_postgres: bool,
    /// Whether the private Postgres has data already.
    pub has_data: bool,
    /// Whether `PUBLIC_URL` is set.
    pub has_public_url: bool,
    unusable: BTreeSet<&'static str>,
}

impl DoctorSettings {
    /// Returns whether the variable has no usable value: it is invalid, or a secret that is not
    /// generated yet. Checks that depend on it are skipped.
    pub fn is_unusable(&self, variable: &str) -> bool {
        self.unusable.contains(variable)
    }
}

/// Reads the configuration, and returns a problem for each invalid variable. Secrets that are not
/// generated yet are replaced by placeholders, which are not stored.
pub(super) fn read_settings() -> (DoctorSettings, Vec<Check>) {
    let mut env = Env::from_process();
    let is_private = !env.is_set("DATABASE_URL");
    let mut checks = Vec::new();
    let (mut has_data, mut absent) = (false, Vec::new());
    if is_private {
        let dir = data_dir(&mut env);
        let cluster = dir.join(CLUSTER_DIR);
        has_data = cluster.join("data").exists();
        let secrets = secrets_file::load(&dir, cluster.exists());
        let secrets = secrets.unwrap_or_else(|error| {
            checks.push(Check::problem("DATA_DIR", error.to_string()));
            None
        });
        let unset = ["KEY_PEPPERS", "JWT_SECRETS"].into_iter().filter(|it| !env.is_set(it));
        let unset = unset.collect();
        let of_features = secrets_file::missing_feature_secrets(&mut env);
        // Placeholders, so that missing secrets are not reported as problems.
        let mut secrets = secrets.unwrap_or_else(|| {
            absent = unset;
            secrets_file::generate(&SystemEntropy)
        });
        for FeatureSecret { variable, generate, .. } in of_features {
            if secrets.contains_key(*variable) {
                continue;
            }
            absent.push(variable);
            match generate(&SystemEntropy) {
                Ok(secret) => {
                    secrets.insert((*variable).to_owned(), secret.to_string());
                }
                Err(error) => checks.push(Check::problem(variable, error.to_string())),
            }
        }
        env = env.with_defaults(secrets);
    }
    let config = Config::read_leniently(&mut env);
    let problems =
        env.check_problems().err().map_or_else(Vec::new, |ConfigError(problems)| problems);
    let unusable = problems.iter().map(|(variable, _)| *variable).chain(absent).collect();
    if problems.is_empty() {
        checks.push(Check::ok("configuration", "every variable that is set is valid"));
    }
    checks.extend(problems.into_iter().map(|(variable, why)| Check::problem(variable, why)));
    let has_public_url = env.is_set("PUBLIC_URL");
    (
        DoctorSettings {
            config,
            uses_private_postgres: is_private,
            has_data,
            has_public_url,
            unusable,
        },
        checks,
    )
}
