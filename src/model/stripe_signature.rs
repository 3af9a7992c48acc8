//! The header `Stripe-Signature`, which proves that a body comes from Stripe
//! (<https://docs.stripe.com/webhooks#verify-manually>).
//!
//! Its form is `t=…,v1=…,v1=…`: the time of signing, and the HMAC-SHA-256 of that time, a dot and
//! the body, once for each secret that Stripe currently signs with. Other schemes (`v0`) are
//! ignored.

use chrono::{DateTime, TimeDelta, Utc};
use hex::FromHex;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

use crate::model::ValidationError;
use crate::model::secret::Secret;

/// The maximum difference between the time of signing and now, in either direction.
pub const TOLERANCE: TimeDelta = TimeDelta::seconds(300);

/// The parsed header.
pub struct StripeSignature<'a> {
    /// The time of signing as it was sent, since this text was signed.
    time: &'a str,
    at: DateTime<Utc>,
    candidates: Vec<[u8; 32]>,
}

impl<'a> StripeSignature<'a> {
    /// Parses the header.
    ///
    /// # Errors
    /// The header does not have exactly one valid time, or has no signature.
    pub fn parse(header: &'a str) -> Result<Self, ValidationError> {
        let pairs = header.split(',').filter_map(|part| part.trim().split_once('='));
        let (mut times, mut candidates) = (Vec::new(), Vec::new());
        for (name, value) in pairs {
            match name {
                "t" => times.push(value),
                "v1" => candidates.extend(<[u8; 32]>::from_hex(value).ok()),
                _ => {}
            }
        }
        let [time] = times[..] else {
            return Err("must contain one time of signing (t=…)".into());
        };
        let is_plain = time.bytes().all(|byte| byte.is_ascii_digit());
        let at = time.parse().ok().filter(|_| is_plain);
        let at = at.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        let at = at.ok_or("must contain the time of signing in Unix seconds (t=…)")?;
        if candidates.is_empty() {
            return Err("must contain a signature (v1=…)".into());
        }
        Ok(Self { time, at, candidates })
    }

    /// Verifies that a body was signed with one of the secrets, at most [`TOLERANCE`] from now.
    /// Compares every signature with that of every secret, in constant time.
    ///
    /// # Errors
    /// The body was not signed with any of the secrets, or not recently. The error contains no
    /// secret.
    pub fn verify(
        &self,
        body: &[u8],
        secrets: &[Secret],
        now: DateTime<Utc>,
    ) -> Result<(), ValidationError> {
        let mut is_match = Choice::from(0);
        for secret in secrets {
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else {
                continue;
            };
            mac.update(self.time.as_bytes());
            mac.update(b".");
            mac.update(body);
            let expected: [u8; 32] = mac.finalize().into_bytes().into();
            for candidate in &self.candidates {
                is_match |= candidate.ct_eq(&expected);
            }
        }
        if !bool::from(is_match) {
            return Err("is not the signature of this body".into());
        }
        if (now - self.at).abs() > TOLERANCE {
            let seconds = TOLERANCE.num_seconds();
            return Err(format!("was made more than {seconds} seconds from now").into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id":"evt_test_webhook","object":"event"}"#;
    const SECRET: &str = "whsec_0123456789abcdef";
    /// `printf '%s' '1700000000.{"id":"evt_test_webhook","object":"event"}' |
    /// openssl dgst -sha256 -hmac whsec_0123456789abcdef`
    const SIGNED: &str = "800900228e6efab1ba94cd585261ee6873cf77b9ba01c5f8c3bc6182aab5634c";

    fn verified(header: &str, body: &[u8], secrets: &[&str], seconds_later: i64) -> bool {
        let secrets: Vec<_> = secrets.iter().map(|it| Secret::new((*it).to_owned())).collect();
        let now = DateTime::from_timestamp(1_700_000_000 + seconds_later, 0).expect("a time");
        let signature = StripeSignature::parse(header).expect("a header");
        signature.verify(body, &secrets, now).is_ok()
    }

    #[test]
    fn a_signature_that_openssl_computed_is_valid_from_five_minutes_before_to_five_minutes_after() {
        let header = format!("t=1700000000,v1={SIGNED}");
        for (later, valid) in [(0, true), (300, true), (-300, true), (301, false), (-301, false)] {
            assert_eq!(verified(&header, BODY, &[SECRET], later), valid, "{later}");
        }
    }

    #[test]
    fn one_valid_signature_with_one_of_the_secrets_is_sufficient() {
        let other = "0".repeat(64);
        for header in [
            format!("t=1700000000, v1={other},v1={SIGNED},v0={other}"),
            format!("v1={SIGNED},v1={other},t=1700000000"),
        ] {
            assert!(verified(&header, BODY, &["whsec_another_secret", SECRET], 0));
            assert!(verified(&header, BODY, &[SECRET, "whsec_another_secret"], 0));
            assert!(!verified(&header, BODY, &["whsec_another_secret"], 0));
            assert!(!verified(&header, BODY, &[], 0));
        }
    }

    #[test]
    fn a_signature_of_another_scheme_time_or_body_is_not_valid() {
        let other = "0".repeat(64);
        let v0 = format!("t=1700000000,v1={other},v0={SIGNED}");
        assert!(!verified(&v0, BODY, &[SECRET], 0));
        assert!(!verified(&format!("t=1700000001,v1={SIGNED}"), BODY, &[SECRET], 0));
        assert!(!verified(&format!("t=01700000000,v1={SIGNED}"), BODY, &[SECRET], 0));
        assert!(!verified(&format!("t=1700000000,v1={SIGNED}"), &BODY[1..], &[SECRET], 0));
    }

    #[test]
    fn a_header_without_one_valid_time_and_a_signature_is_an_error() {
        let long = "9".repeat(40);
        for header in [
            String::new(),
            SIGNED.to_owned(),
            format!("v1={SIGNED}"),
            "t=1700000000".to_owned(),
            format!("t=1700000000,t=1700000000,v1={SIGNED}"),
            format!("t=soon,v1={SIGNED}"),
            format!("t=+1700000000,v1={SIGNED}"),
            format!("t={long},v1={SIGNED}"),
            "t=1700000000,v1=abc".to_owned(),
            format!("t=1700000000,v1={}", "é".repeat(32)),
            format!("t=1700000000,v0={SIGNED}"),
        ] {
            assert!(StripeSignature::parse(&header).is_err(), "{header:?}");
        }
    }
}
