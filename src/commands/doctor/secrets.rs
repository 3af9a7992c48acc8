//! Checks whether the secrets are hard to guess.

use std::collections::BTreeSet;

use super::Check;
use super::settings::DoctorSettings;
use crate::config::named_secret::NamedSecret;
use crate::config::openid_keys;
use crate::config::sso::SEALING_KEYS;

/// The number of distinct byte values up to which a secret counts as weak. 32 random bytes have
/// about 30 distinct values, and practically never as few as this.
const WEAK_DISTINCT_BYTES: usize = 10;

/// Checks the peppers, the secrets that sign access tokens, and the sealing keys.
pub(super) fn check_strength(settings: &DoctorSettings) -> Vec<Check> {
    let (keys, tokens) = (&settings.config.keys, &settings.config.tokens);
    let token_description = match tokens.private_keys.first() {
        Some(newest) => format!("the Ed25519 key {} signs access tokens", newest.id),
        None => describe_signing_secret(&tokens.secrets),
    };
    let newest = keys.peppers.first().map_or("", |newest| &newest.id);
    let key_description = format!("{} in the list; {newest} digests new keys", keys.peppers.len());
    let mut lists = vec![
        ("KEY_PEPPERS", &keys.peppers, key_description, "rotate to it as the README describes"),
        (
            "JWT_SECRETS",
            &tokens.secrets,
            token_description,
            "put it first, then remove the old one",
        ),
    ];
    let sso = &settings.config.sso;
    if sso.is_on {
        let newest = sso.sealing_keys.first().map_or("", |newest| &newest.id);
        let description = format!("{} in the list; {newest} is the newest", sso.sealing_keys.len());
        let how_to_rotate = "rotate to it as the README describes";
        lists.push((SEALING_KEYS, &sso.sealing_keys, description, how_to_rotate));
    }
    let mut checks = Vec::new();
    for (variable, secrets, description, how_to_rotate) in lists {
        if settings.is_unusable(variable) {
            continue;
        }
        let weak = join_ids(secrets.iter().filter(|secret| is_weak(&secret.bytes)));
        checks.push(if weak.is_empty() {
            Check::ok(variable, description)
        } else {
            let text = format!(
                "{weak}: not random bytes, so it can be guessed; create a new one with openssl \
                 rand -base64 32, and {how_to_rotate}"
            );
            Check::problem(variable, text)
        });
    }
    let is_pepper = |secret: &&NamedSecret| keys.peppers.iter().any(|it| it.bytes == secret.bytes);
    let shared = join_ids(tokens.secrets.iter().filter(is_pepper));
    if !shared.is_empty() {
        let text = format!(
            "{shared}: also used in KEY_PEPPERS, so that one leak exposes both; create a new one"
        );
        checks.push(Check::warning("JWT_SECRETS", text));
    }
    checks.extend(check_openid_keys(settings));
    checks
}

/// States which keys sign ID tokens, if OAuth is on.
fn check_openid_keys(settings: &DoctorSettings) -> Option<Check> {
    let oauth = &settings.config.oauth;
    if oauth.openid_keys.is_empty() || settings.is_unusable(openid_keys::VARIABLE) {
        return None;
    }
    let signing = oauth.id_token_algorithms().into_iter().filter_map(|algorithm| {
        let newest = oauth.openid_keys.iter().find(|key| key.algorithm == algorithm)?;
        Some(format!("{} signs ID tokens with {}", newest.id, algorithm.as_str()))
    });
    Some(Check::ok(openid_keys::VARIABLE, signing.collect::<Vec<_>>().join("; ")))
}

fn describe_signing_secret(secrets: &[NamedSecret]) -> String {
    let newest = secrets.first().map_or("", |newest| &newest.id);
    format!("{} in the list; {newest} signs access tokens", secrets.len())
}

fn join_ids<'a>(secrets: impl Iterator<Item = &'a NamedSecret>) -> String {
    secrets.map(|secret| secret.id.as_str()).collect::<Vec<_>>().join(", ")
}

/// Returns whether the bytes have few distinct values, or count up or down.
fn is_weak(bytes: &[u8]) -> bool {
    let values: BTreeSet<_> = bytes.iter().collect();
    let steps: BTreeSet<_> = bytes.windows(2).map(|two| two[1].wrapping_sub(two[0])).collect();
    values.len() <= WEAK_DISTINCT_BYTES || steps.len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::{Entropy, SystemEntropy};

    #[test]
    fn predictable_secrets_are_weak_and_random_ones_are_not() {
        let counting: [u8; 32] = std::array::from_fn(|index| u8::try_from(index).unwrap());
        let weak: [&[u8]; 4] = [
            &[0; 64],
            b"changemechangemechangemechangeme",
            &counting,
            b"01234567890123456789012345678901",
        ];
        for bytes in weak {
            assert!(is_weak(bytes), "{bytes:?}");
        }
        for _ in 0..1000 {
            let mut bytes = [0; 32];
            SystemEntropy.fill(&mut bytes);
            assert!(!is_weak(&bytes), "{bytes:?}");
        }
    }
}
