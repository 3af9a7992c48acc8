//! The settings of single sign-on.

use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::aead::AES_256_GCM;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::config::env::Env;
use crate::config::keys::parse_switch;
use crate::config::named_secret::{NamedSecret, parse_named_secrets};
use crate::entropy::{Entropy, random_base62};
use crate::model::ValidationError;

/// The variable with the keys that seal the client secrets of identity providers.
pub const SEALING_KEYS: &str = "SEALING_KEYS";
/// By how much the clock of an identity provider may differ from the server's, by default.
const DEFAULT_CLOCK_SKEW: Duration = Duration::from_mins(2);
/// The number of random characters in the id of a generated key. Stored secrets name the key by its
/// id, so that a new key must never have the id of an earlier one.
const ID_LENGTH: usize = 10;
/// The port of a DNS server.
const DNS_PORT: u16 = 53;

/// The settings of single sign-on.
pub struct SsoSettings {
    /// Whether it is on. Otherwise its routes do not exist, and the sessions that it began are not
    /// valid.
    pub is_on: bool,
    /// By how much the clock of an identity provider may differ from the server's.
    pub clock_skew: Duration,
    /// The keys that seal the client secrets of identity providers, newest first: 32 bytes each.
    /// There is at least one if single sign-on is on.
    pub sealing_keys: Vec<NamedSecret>,
    /// The DNS servers that are asked for the records of domains; those of the system if empty.
    pub dns_servers: Vec<SocketAddr>,
}

impl SsoSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let is_on = env.optional("SSO", parse_switch).unwrap_or(false);
        let clock_skew = env.optional("SSO_CLOCK_SKEW", parse_clock_skew);
        let sealing_keys = env.optional(SEALING_KEYS, parse_sealing_keys).unwrap_or_default();
        if is_on && !env.is_set(SEALING_KEYS) {
            env.add_problem(SEALING_KEYS, "must be set when DATABASE_URL is set and SSO is on");
        }
        Self {
            is_on,
            clock_skew: clock_skew.unwrap_or(DEFAULT_CLOCK_SKEW),
            sealing_keys,
            dns_servers: env.optional("DNS_SERVERS", parse_dns_servers).unwrap_or_default(),
        }
    }
}

/// Generates a key, as a value of [`SEALING_KEYS`].
#[must_use]
pub fn generate_sealing_key(entropy: &dyn Entropy) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    entropy.fill(&mut *bytes);
    let id = random_base62(entropy, ID_LENGTH);
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(*bytes));
    Zeroizing::new(format!("seal-{id}:{}", *encoded))
}

/// Parses `id:base64[,id:base64…]`, newest first, with 32 bytes each.
///
/// # Errors
/// The text has another form. The error does not contain the text, which is secret.
pub fn parse_sealing_keys(text: &str) -> Result<Vec<NamedSecret>, ValidationError> {
    let keys = parse_named_secrets(text)?;
    if let Some(key) = keys.iter().find(|key| key.bytes.len() != AES_256_GCM.key_len()) {
        return Err(format!("must have exactly 32 bytes for the id {}", key.id).into());
    }
    Ok(keys)
}

fn parse_clock_skew(text: &str) -> Result<Duration, ValidationError> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= 600);
    let seconds = seconds.ok_or("must be a number of seconds from 0 to 600")?;
    Ok(Duration::from_secs(seconds))
}

/// Parses IP addresses, each with or without a port, separated by commas.
fn parse_dns_servers(text: &str) -> Result<Vec<SocketAddr>, ValidationError> {
    let parse = |text: &str| {
        let with_port = text.parse().ok();
        with_port.or_else(|| Some(SocketAddr::new(text.parse().ok()?, DNS_PORT)))
    };
    let servers: Option<_> = text.split(',').map(|server| parse(server.trim())).collect();
    servers.ok_or_else(|| {
        "must be IP addresses, separated by commas, each with or without a port, such as \
         192.0.2.1,[2001:db8::1]:5353"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    #[test]
    fn generated_keys_are_valid_and_have_different_ids() {
        let [one, other] = [(); 2].map(|()| generate_sealing_key(&SystemEntropy));
        let keys = parse_sealing_keys(&format!("{},{}", *one, *other)).map_err(|why| why.0);
        assert_eq!(keys.expect("two keys").len(), 2);
    }

    #[test]
    fn a_key_of_another_length_than_32_bytes_is_rejected() {
        for length in [31, 33, 64] {
            let text = format!("s1:{}", BASE64_STANDARD.encode(vec![0; length]));
            assert!(parse_sealing_keys(&text).is_err(), "{length}");
        }
    }

    #[test]
    fn a_dns_server_is_an_address_with_or_without_a_port() {
        let servers = parse_dns_servers("192.0.2.1, 192.0.2.2:5353,2001:db8::1,[2001:db8::1]:54");
        let servers: Vec<String> =
            servers.expect("servers").iter().map(ToString::to_string).collect();
        let expected = ["192.0.2.1:53", "192.0.2.2:5353", "[2001:db8::1]:53", "[2001:db8::1]:54"];
        assert_eq!(servers, expected);
        for text in ["", "dns.example.com", "192.0.2.1:0x", "192.0.2.1,,", "192.0.2.1;192.0.2.2"] {
            assert!(parse_dns_servers(text).is_err(), "{text}");
        }
    }
}
