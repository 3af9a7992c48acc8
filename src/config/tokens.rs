//! How access tokens are signed.

use crate::config::env::Env;
use crate::config::named_secret::{NamedSecret, parse_list};

/// How access tokens are signed.
pub struct TokenSettings {
    /// What they are signed with, newest first; never empty.
    pub secrets: Vec<NamedSecret>,
}

impl TokenSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let secrets = env.optional("JWT_SECRETS", parse_list);
        if !env.is_set("JWT_SECRETS") {
            env.problem("JWT_SECRETS", "must be set when DATABASE_URL is");
        }
        Self { secrets: secrets.unwrap_or_default() }
    }
}
