//! The operator's master keys: one list for each scope, so that a key can be rotated without
//! downtime.

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::config::env::{Env, check_unquoted};
use crate::model::ValidationError;
use crate::model::master_scope::MasterScope;

/// The minimum length of a master key in bytes.
const MIN_LENGTH: usize = 32;

/// The operator's master keys. Only their digests are stored.
pub struct MasterKeys(Vec<(MasterScope, [u8; 32])>);

impl MasterKeys {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let mut keys = Vec::new();
        for scope in MasterScope::ALL {
            let digests = env.optional(scope.variable(), parse_secrets).unwrap_or_default();
            keys.extend(digests.into_iter().map(|digest| (scope, digest)));
        }
        Self(keys)
    }

    /// Returns whether `text` is a master key of `scope`. It is compared with the keys of all
    /// scopes, in constant time. A scope without a key rejects every text.
    #[must_use]
    pub fn verify(&self, scope: MasterScope, text: &str) -> bool {
        let presented: [u8; 32] = Sha256::digest(text).into();
        let is_match = self.0.iter().fold(Choice::from(0), |is_match, (key_scope, digest)| {
            is_match | (digest.ct_eq(&presented) & Choice::from(u8::from(*key_scope == scope)))
        });
        is_match.into()
    }
}

fn parse_secrets(text: &str) -> Result<Vec<[u8; 32]>, ValidationError> {
    text.split(',').map(|secret| parse_secret(secret.trim())).collect()
}

fn parse_secret(text: &str) -> Result<[u8; 32], ValidationError> {
    let text = check_unquoted(text)?;
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.len() < MIN_LENGTH || !visible {
        return Err(format!(
            "must be secrets of at least {MIN_LENGTH} visible ASCII characters, separated by commas"
        )
        .into());
    }
    Ok(Sha256::digest(text).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "old-0123456789012345678901234567890123456789";
    const NEW: &str = "new-0123456789012345678901234567890123456789";

    fn keys(value: &str) -> Result<MasterKeys, crate::config::ConfigError> {
        let is_set = |name: &str| name == "MASTER_ADMIN_KEY_ORG_CREATE";
        let mut env = Env::from_source(|name: &str| is_set(name).then(|| value.to_owned()));
        let keys = MasterKeys::read(&mut env);
        env.check_problems().map(|()| keys)
    }

    #[test]
    fn each_key_of_a_scope_is_valid_for_that_scope_only() {
        let keys = keys(&format!("{NEW}, {OLD}")).expect("two secrets");
        assert!(keys.verify(MasterScope::OrgCreate, OLD));
        assert!(keys.verify(MasterScope::OrgCreate, NEW));
        assert!(!keys.verify(MasterScope::OrgSuspend, NEW));
        assert!(!keys.verify(MasterScope::OrgCreate, &NEW[1..]));
        assert!(!keys.verify(MasterScope::OrgCreate, ""));
    }

    #[test]
    fn a_short_key_or_an_empty_item_in_the_list_is_a_problem() {
        for value in ["short", &NEW[..31], &format!("{NEW},"), &format!("{NEW} {OLD}")] {
            assert!(keys(value).is_err(), "{value:?}");
        }
    }
}
