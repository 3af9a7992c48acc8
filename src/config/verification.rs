//! The settings of verification: who may check customers' credentials.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::config::env::{Env, check_unquoted};
use crate::model::ValidationError;

/// The minimum length of a verifier's secret in bytes.
const MIN_LENGTH: usize = 32;
/// The maximum length of a verifier's name.
const MAX_NAME_LENGTH: usize = 32;

/// How long a check waits for the database by default: with the rest of the check, less than the
/// 200 ms that Envoy waits by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(140);

/// The settings of verification.
pub struct VerificationSettings {
    /// The verifiers that present a secret.
    pub verifiers: Verifiers,
    /// The listener that serves only the routes for verifiers, which need no secret there.
    pub listener: Option<VerifyListener>,
    /// How long a check may wait for the database.
    pub timeout: Duration,
}

/// Where checks without a secret are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyListener {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl VerificationSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        let verifiers = env.optional("VERIFIER_KEYS", parse_verifiers).unwrap_or_default();
        let listener = env.optional("VERIFY_ADDR", parse_listener);
        let timeout = env.optional("VERIFY_TIMEOUT_MS", parse_timeout).unwrap_or(DEFAULT_TIMEOUT);
        Self { verifiers: Verifiers(verifiers), listener, timeout }
    }

    /// Returns whether there is a verifier with this name.
    #[must_use]
    pub fn has_verifier(&self, name: &str) -> bool {
        let has_listener = name == LOCAL && self.listener.is_some();
        has_listener || self.verifiers.0.iter().any(|(own_name, _)| &**own_name == name)
    }

    /// Returns whether there are verifiers. Otherwise their routes do not exist.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.listener.is_some() || !self.verifiers.0.is_empty()
    }
}

/// The verifiers and the digests of their secrets. A name may occur twice, while one secret
/// replaces another.
pub struct Verifiers(Vec<NamedDigest>);

/// A verifier's name, and the digest of a secret of it.
type NamedDigest = (Arc<str>, [u8; 32]);

impl Verifiers {
    /// Returns the name of the verifier with this secret, and with this name if one is given. The
    /// secret is compared with every configured one in constant time.
    #[must_use]
    pub fn find(&self, name: Option<&str>, secret: &str) -> Option<Arc<str>> {
        let presented: [u8; 32] = Sha256::digest(secret).into();
        // The index after the last one stands for no verifier.
        let none = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let mut found = none;
        for (index, (own_name, digest)) in (0..none).zip(&self.0) {
            let has_name = Choice::from(u8::from(name.is_none_or(|name| name == &**own_name)));
            found.conditional_assign(&index, digest.ct_eq(&presented) & has_name);
        }
        let (name, _) = self.0.get(usize::try_from(found).ok()?)?;
        Some(Arc::clone(name))
    }
}

fn parse_verifiers(text: &str) -> Result<Vec<NamedDigest>, ValidationError> {
    text.split(',').map(|item| parse_verifier(item.trim())).collect()
}

fn parse_verifier(item: &str) -> Result<NamedDigest, ValidationError> {
    let item = check_unquoted(item)?;
    let (name, secret) =
        item.split_once(':').ok_or("must be a list of name:secret, separated by commas")?;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !(1..=MAX_NAME_LENGTH).contains(&name.len()) || !name.bytes().all(is_allowed) {
        return Err(
            format!("must have names of 1 to {MAX_NAME_LENGTH} letters, digits, - or _").into()
        );
    }
    if name == LOCAL {
        return Err(format!("must not use the name {LOCAL}: it is that of VERIFY_ADDR").into());
    }
    if secret.len() < MIN_LENGTH || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "must have a secret of at least {MIN_LENGTH} visible ASCII characters under the name \
             {name}"
        )
        .into());
    }
    Ok((name.into(), Sha256::digest(secret).into()))
}

/// The name of the verifier behind `VERIFY_ADDR`.
pub const LOCAL: &str = "local";

fn parse_timeout(text: &str) -> Result<Duration, ValidationError> {
    let milliseconds = text.parse().ok().filter(|it| (10..=10_000).contains(it));
    let milliseconds =
        milliseconds.ok_or("must be a whole number of milliseconds from 10 to 10000")?;
    Ok(Duration::from_millis(milliseconds))
}

fn parse_listener(text: &str) -> Result<VerifyListener, ValidationError> {
    match text.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') => Ok(VerifyListener::Unix(path.into())),
        Some(_) => Err("must be unix: and an absolute path".into()),
        None => text
            .parse()
            .map(VerifyListener::Tcp)
            .map_err(|_| "must be an address and a port, or unix: and an absolute path".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "old-0123456789012345678901234567890123456789";
    const NEW: &str = "new-0123456789012345678901234567890123456789";

    fn read(name: &str, value: &str) -> Result<VerificationSettings, crate::config::ConfigError> {
        let mut env = Env::from_source(|it: &str| (it == name).then(|| value.to_owned()));
        let settings = VerificationSettings::read(&mut env);
        env.check_problems().map(|()| settings)
    }

    #[test]
    fn each_secret_finds_its_verifier_and_a_name_may_have_two() {
        let text = format!("gateway:{NEW}, gateway:{OLD},billing:{NEW}x");
        let settings = read("VERIFIER_KEYS", &text).expect("three secrets");
        assert!(settings.is_enabled());
        let find =
            |secret: &str| settings.verifiers.find(None, secret).map(|name| name.to_string());
        assert_eq!(find(NEW).as_deref(), Some("gateway"));
        assert_eq!(find(OLD).as_deref(), Some("gateway"));
        assert_eq!(find(&format!("{NEW}x")).as_deref(), Some("billing"));
        assert_eq!(find(&NEW[1..]), None);
        assert_eq!(find(""), None);
        let find_named = |name| settings.verifiers.find(Some(name), OLD);
        assert_eq!(find_named("gateway").as_deref(), Some("gateway"));
        assert_eq!(find_named("billing"), None);
    }

    #[test]
    fn a_verifier_needs_a_name_of_its_own_and_a_long_secret() {
        let short = &NEW[..31];
        for value in [
            NEW,
            &format!(":{NEW}"),
            &format!("a b:{NEW}"),
            &format!("a:{short}"),
            "a:",
            &format!("local:{NEW}"),
            &format!("a:{NEW},"),
        ] {
            assert!(read("VERIFIER_KEYS", value).is_err(), "{value:?}");
        }
        assert!(!read("OTHER", NEW).expect("no verifier").is_enabled());
    }

    #[test]
    fn the_listener_is_an_address_or_a_unix_socket() {
        let listener = |text| read("VERIFY_ADDR", text).map(|settings| settings.listener);
        let tcp = VerifyListener::Tcp(SocketAddr::from(([127, 0, 0, 1], 8082)));
        assert_eq!(listener("127.0.0.1:8082").expect("an address"), Some(tcp));
        let unix = VerifyListener::Unix("/run/tenantry/verify.sock".into());
        assert_eq!(listener("unix:/run/tenantry/verify.sock").expect("a socket"), Some(unix));
        for text in ["unix:verify.sock", "unix:", "localhost:8082", "8082"] {
            assert!(listener(text).is_err(), "{text:?}");
        }
    }
}
