//! The operator's own secrets: one list for each scope, so that one can follow another without a
//! break.

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::config::env::{Env, check_unquoted};
use crate::model::ValidationError;
use crate::model::master_scope::MasterScope;

/// The shortest secret, in bytes.
const MIN_LENGTH: usize = 32;

/// The operator's secrets. Only their digests are kept.
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

    /// Whether `text` is a secret of `scope`. Every secret of every scope is compared, in constant
    /// time; a scope without a secret admits nobody.
    #[must_use]
    pub fn verify(&self, scope: MasterScope, text: &str) -> bool {
        let presented: [u8; 32] = Sha256::digest(text).into();
        let found = self.0.iter().fold(Choice::from(0), |found, (of, digest)| {
            found | (digest.ct_eq(&presented) & Choice::from(u8::from(*of == scope)))
        });
        found.into()
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
        let named = |name: &str| name == "MASTER_ADMIN_KEY_ORG_CREATE";
        let mut env = Env::from_source(|name: &str| named(name).then(|| value.to_owned()));
        let keys = MasterKeys::read(&mut env);
        env.check_problems().map(|()| keys)
    }

    #[test]
    fn each_secret_of_a_scope_is_good_for_that_scope_alone() {
        let keys = keys(&format!("{NEW}, {OLD}")).expect("two secrets");
        assert!(keys.verify(MasterScope::OrgCreate, OLD));
        assert!(keys.verify(MasterScope::OrgCreate, NEW));
        assert!(!keys.verify(MasterScope::OrgSuspend, NEW));
        assert!(!keys.verify(MasterScope::OrgCreate, &NEW[1..]));
        assert!(!keys.verify(MasterScope::OrgCreate, ""));
    }

    #[test]
    fn a_short_secret_or_an_empty_place_in_the_list_is_a_problem() {
        for value in ["short", &NEW[..31], &format!("{NEW},"), &format!("{NEW} {OLD}")] {
            assert!(keys(value).is_err(), "{value:?}");
        }
    }
}
