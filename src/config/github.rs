//! The settings for the reports of GitHub's secret scanning: the public keys that they are signed
//! with, or where to fetch these.

use url::{Host, Url};

use crate::config::env::Env;
use crate::model::ValidationError;
use crate::model::github_keys::GithubKeys;

/// The settings for the reports of GitHub's secret scanning.
pub struct GithubSettings {
    /// The keys of the reports' signatures. Without them, reports are not accepted.
    pub keys: Option<GithubKeySource>,
}

/// Where the keys come from.
#[derive(Clone)]
pub enum GithubKeySource {
    /// The configuration.
    Pinned(GithubKeys),
    /// This URL.
    Url(Url),
}

impl GithubSettings {
    pub(super) fn read(env: &mut Env<'_>) -> Self {
        Self { keys: env.optional("GITHUB_SECRET_SCANNING_KEYS", parse_source) }
    }

    /// Returns whether reports are accepted.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.keys.is_some()
    }
}

fn parse_source(text: &str) -> Result<GithubKeySource, ValidationError> {
    if text.starts_with('{') {
        return GithubKeys::parse(text.as_bytes()).map(GithubKeySource::Pinned);
    }
    let url = Url::parse(text).ok().filter(is_private_on_the_way);
    let url = url.ok_or("must be an https URL, or the JSON that GitHub publishes there")?;
    Ok(GithubKeySource::Url(url))
}

/// Returns whether nobody on the way can replace the keys: with https, or on this machine.
fn is_private_on_the_way(url: &Url) -> bool {
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => true,
        ("http", Some(Host::Domain(name))) => name == "localhost",
        ("http", Some(Host::Ipv4(address))) => address.is_loopback(),
        ("http", Some(Host::Ipv6(address))) => address.is_loopback(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<GithubSettings, crate::config::ConfigError> {
        let mut env = Env::from_source(|name: &str| {
            (name == "GITHUB_SECRET_SCANNING_KEYS").then(|| value.to_owned())
        });
        let settings = GithubSettings::read(&mut env);
        env.check_problems().map(|()| settings)
    }

    #[test]
    fn keys_come_from_an_https_url_or_from_this_machine_and_are_off_by_default() {
        assert!(!read("").expect("nothing").is_enabled());
        for url in ["https://api.github.com/keys", "http://127.0.0.1:1/", "http://[::1]:1/"] {
            let settings = read(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert!(matches!(settings.keys, Some(GithubKeySource::Url(_))), "{url}");
        }
        for text in ["on", "http://api.github.com/keys", "ftp://localhost/", "https://", "{}"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
