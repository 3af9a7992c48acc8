//! `Stripe-Signature`: the proof that a body comes from Stripe
//! (<https://docs.stripe.com/webhooks#verify-manually>).
//!
//! `t=…,v1=…,v1=…`: the time of signing, and HMAC-SHA-256 of that time, a dot and the body, once
//! for each secret that Stripe signs with just then. Other schemes (`v0`) prove nothing.

use chrono::{DateTime, TimeDelta, Utc};
use hex::FromHex;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

use crate::model::ValidationError;
use crate::model::secret::Secret;

/// How far the time of signing may be from now, either way.
pub const TOLERANCE: TimeDelta = TimeDelta::seconds(300);

/// The header, read.
pub struct StripeSignature<'a> {
    /// The time as it was sent, since that text was signed.
    time: &'a str,
    at: DateTime<Utc>,
    candidates: Vec<[u8; 32]>,
}

impl<'a> StripeSignature<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// Where it has no time, more than one, or no signature.
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

    /// Verifies that a body was recently signed with one of the secrets. Every signature is
    /// compared with that of every secret, in constant time.
    ///
    /// # Errors
    /// Otherwise, with a message that reveals nothing of a secret.
    pub fn verify(
        &self,
        body: &[u8],
        secrets: &[Secret],
        now: DateTime<Utc>,
    ) -> Result<(), ValidationError> {
        let mut is_ours = Choice::from(0);
        for secret in secrets {
            let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else {
                continue;
            };
            mac.update(self.time.as_bytes());
            mac.update(b".");
            mac.update(body);
            let expected: [u8; 32] = mac.finalize().into_bytes().into();
            for candidate in &self.candidates {
                is_ours |= candidate.ct_eq(&expected);
            }
        }
        if !bool::from(is_ours) {
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
    fn a_signature_that_openssl_made_is_good_for_five_minutes_either_way() {
        let header = format!("t=1700000000,v1={SIGNED}");
        for (later, good) in [(0, true), (300, true), (-300, true), (301, false), (-301, false)] {
            assert_eq!(verified(&header, BODY, &[SECRET], later), good, "{later}");
        }
    }

    #[test]
    fn one_good_signature_of_several_under_one_of_several_secrets_is_enough() {
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
    fn another_scheme_another_time_or_another_body_is_not_good() {
        let other = "0".repeat(64);
        let v0 = format!("t=1700000000,v1={other},v0={SIGNED}");
        assert!(!verified(&v0, BODY, &[SECRET], 0));
        assert!(!verified(&format!("t=1700000001,v1={SIGNED}"), BODY, &[SECRET], 0));
        assert!(!verified(&format!("t=01700000000,v1={SIGNED}"), BODY, &[SECRET], 0));
        assert!(!verified(&format!("t=1700000000,v1={SIGNED}"), &BODY[1..], &[SECRET], 0));
    }

    #[test]
    fn what_has_no_time_or_no_signature_is_refused() {
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
