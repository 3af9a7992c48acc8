//! The settings for the reports of GitHub's secret scanning: the public keys that verify them, or
//! where to fetch these.

use url::Url;

use crate::config::env::Env;
use crate::config::outbound::OutboundSettings;
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
    pub(super) fn read(env: &mut Env<'_>, outbound: &OutboundSettings) -> Self {
        let keys = env.optional("GITHUB_SECRET_SCANNING_KEYS", |text| parse_source(text, outbound));
        Self { keys }
    }

    /// Returns whether reports are accepted.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.keys.is_some()
    }
}

fn parse_source(
    text: &str,
    outbound: &OutboundSettings,
) -> Result<GithubKeySource, ValidationError> {
    if text.starts_with('{') {
        return GithubKeys::parse(text.as_bytes()).map(GithubKeySource::Pinned);
    }
    let url = Url::parse(text).ok().filter(Url::has_host);
    let url = url.ok_or("must be an https URL, or the JSON that GitHub publishes there")?;
    let checked = outbound.allowed_hosts.check(&url);
    checked.map_err(|ValidationError(why)| {
        format!("{why}; a host inside the network must be in OUTBOUND_ALLOW")
    })?;
    Ok(GithubKeySource::Url(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<GithubSettings, crate::config::ConfigError> {
        let mut env = Env::from_source(|name: &str| match name {
            "GITHUB_SECRET_SCANNING_KEYS" => Some(value.to_owned()),
            "OUTBOUND_ALLOW" => Some("127.0.0.1:1,[::1]:1,10.0.0.1:443".to_owned()),
            _ => None,
        });
        let outbound = OutboundSettings::read(&mut env);
        let settings = GithubSettings::read(&mut env, &outbound);
        env.check_problems().map(|()| settings)
    }

    #[test]
    fn keys_come_from_a_url_that_may_be_fetched_and_are_off_by_default() {
        assert!(!read("").expect("nothing").is_enabled());
        for url in [
            "https://api.github.com/keys",
            "http://127.0.0.1:1/",
            "http://[::1]:1/",
            "https://10.0.0.1/",
        ] {
            let settings = read(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert!(matches!(settings.keys, Some(GithubKeySource::Url(_))), "{url}");
        }
        for text in [
            "on",
            "http://api.github.com/keys",
            "ftp://localhost/",
            "https://",
            "{}",
            "http://127.0.0.1:2/",
            "http://localhost:1/",
            "https://10.0.0.2/",
            "https://user:password@api.github.com/keys",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
