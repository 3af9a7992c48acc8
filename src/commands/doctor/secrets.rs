//! Whether the secrets are hard to guess.

use std::collections::BTreeSet;

use super::Check;
use super::settings::DoctorSettings;
use crate::config::named_secret::NamedSecret;

/// 32 random bytes have about 30 different values, and next to never as few as this.
const WEAK_DISTINCT_BYTES: usize = 10;

/// Returns the checks of the peppers and of the secrets that sign access tokens.
pub(super) fn check_strength(settings: &DoctorSettings) -> Vec<Check> {
    let (keys, tokens) = (&settings.config.keys, &settings.config.tokens);
    let of_tokens = match tokens.private_keys.first() {
        Some(newest) => format!("the Ed25519 key {} signs access tokens", newest.id),
        None => describe_signing_secret(&tokens.secrets),
    };
    let minting = keys.peppers.first().map_or("", |newest| &newest.id);
    let of_keys = format!("{} in the list, of which {minting} mints", keys.peppers.len());
    let lists = [
        ("KEY_PEPPERS", &keys.peppers, of_keys, "is replaced as the README says"),
        ("JWT_SECRETS", &tokens.secrets, of_tokens, "follows: put it first, then drop the old one"),
    ];
    let mut checks = Vec::new();
    for (variable, secrets, fine, how) in lists {
        if settings.is_broken(variable) {
            continue;
        }
        let weak = join_ids(secrets.iter().filter(|secret| is_weak(&secret.bytes)));
        checks.push(if weak.is_empty() {
            Check::ok(variable, fine)
        } else {
            let text = format!(
                "{weak}: not random bytes, so it can be guessed; one made with openssl rand \
                 -base64 32 {how}"
            );
            Check::problem(variable, text)
        });
    }
    let is_pepper = |secret: &&NamedSecret| keys.peppers.iter().any(|it| it.bytes == secret.bytes);
    let shared = join_ids(tokens.secrets.iter().filter(is_pepper));
    if !shared.is_empty() {
        let text = format!("{shared}: a pepper too, so that one leak is two; make another one");
        checks.push(Check::warning("JWT_SECRETS", text));
    }
    checks
}

fn describe_signing_secret(secrets: &[NamedSecret]) -> String {
    let newest = secrets.first().map_or("", |newest| &newest.id);
    format!("{} in the list, of which {newest} signs access tokens", secrets.len())
}

fn join_ids<'a>(secrets: impl Iterator<Item = &'a NamedSecret>) -> String {
    secrets.map(|secret| secret.id.as_str()).collect::<Vec<_>>().join(", ")
}

/// Whether the bytes are of few values, or count up or down.
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
    fn what_a_person_thinks_up_is_weak_and_what_chance_draws_is_not() {
        let counting: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
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
