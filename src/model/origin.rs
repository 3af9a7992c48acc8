//! Browser origins (RFC 6454), and the list of those that are trusted with cookies.

use std::fmt;

use url::{Host, Url};

use crate::model::ValidationError;

/// The maximum length of the text of an origin, in bytes: enough for a host of 253 Unicode
/// characters.
const MAX_LENGTH: usize = 1_024;

/// An origin in canonical form: scheme, host, and the port if it is not the scheme's default.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(String);

impl Origin {
    /// Parses `https://host[:port]`, without a path or wildcard. `http` is only allowed for
    /// localhost and loopback addresses.
    ///
    /// # Errors
    /// The text is invalid. The error states what is required.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        let invalid = || {
            ValidationError::from(
                "must be https://host or https://host:port (http:// for localhost only)",
            )
        };
        // A URL parser would decode or drop these characters.
        let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && c != '%';
        if text.len() > MAX_LENGTH || !text.chars().all(is_plain) {
            return Err(invalid());
        }
        let url = Url::parse(text).map_err(|_| invalid())?;
        let is_host_valid = url.host_str().is_some_and(|host| host.len() <= 253);
        let is_bare = !text.ends_with('/') && !text.contains(['*', '?', '#', '@', '\\', ' ']);
        let is_bare = is_bare && url.path() == "/" && text.matches('/').count() == 2;
        let is_allowed = match url.scheme() {
            "https" => url.has_host(),
            "http" => is_localhost(&url),
            _ => false,
        };
        if is_bare && is_allowed && is_host_valid {
            Ok(Self::from_url(&url))
        } else {
            Err(invalid())
        }
    }

    /// Returns the origin of a URL.
    #[must_use]
    pub fn from_url(url: &Url) -> Self {
        Self(url.origin().ascii_serialization())
    }

    /// Returns the origin as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The maximum number of origins that an organization can list.
pub const MAX_LISTED_ORIGINS: usize = 50;

/// Parses origins separated by commas, and removes duplicates. There must be at least one.
///
/// # Errors
/// A text is not an origin, or there are more than [`MAX_LISTED_ORIGINS`].
pub fn parse_comma_separated_origins(text: &str) -> Result<Vec<Origin>, ValidationError> {
    parse_origin_list(text.split(',').map(str::trim))
}

/// Parses a list of origins, and removes duplicates.
///
/// # Errors
/// A text is not an origin, or there are more than [`MAX_LISTED_ORIGINS`].
pub fn parse_origin_list<'a>(
    texts: impl Iterator<Item = &'a str>,
) -> Result<Vec<Origin>, ValidationError> {
    let mut origins: Vec<Origin> = Vec::new();
    for (index, text) in texts.enumerate() {
        if index == MAX_LISTED_ORIGINS {
            return Err(format!("must be at most {MAX_LISTED_ORIGINS} origins").into());
        }
        let origin = Origin::parse(text)?;
        if !origins.contains(&origin) {
            origins.push(origin);
        }
    }
    Ok(origins)
}

fn is_localhost(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The origins whose scripts may use an account's session: the API's own and those of the
/// dashboards.
#[derive(Clone, Debug)]
pub struct TrustedOrigins {
    api_url: Url,
    all: Vec<Origin>,
}

impl TrustedOrigins {
    /// Creates the list from the API's own URL and the origins of the dashboards.
    #[must_use]
    pub fn new(own: Url, dashboards: Vec<Origin>) -> Self {
        let mut all = vec![Origin::from_url(&own)];
        all.extend(dashboards);
        Self { api_url: own, all }
    }

    /// Returns whether `origin` is trusted.
    #[must_use]
    pub fn contains(&self, origin: &str) -> bool {
        self.all.iter().any(|trusted| trusted.as_str() == origin)
    }

    /// Returns whether `origin` is that of the API.
    #[must_use]
    pub fn is_own(&self, origin: &Origin) -> bool {
        *origin == Origin::from_url(&self.api_url)
    }

    /// Returns whether `origin` is that of a dashboard.
    #[must_use]
    pub fn is_dashboard(&self, origin: &Origin) -> bool {
        self.all.iter().skip(1).any(|dashboard| dashboard == origin)
    }

    /// Parses a URL to which a browser is to be redirected: one of a trusted origin, or a path of
    /// the API.
    ///
    /// # Errors
    /// The text is invalid. The error states what is required.
    pub fn parse_callback(&self, text: &str) -> Result<String, ValidationError> {
        let url = self.api_url.join(text).ok().filter(|_| text.len() <= 2048);
        let url = url.filter(|url| self.contains(Origin::from_url(url).as_str()));
        let is_plain = |url: &Url| {
            matches!(url.scheme(), "http" | "https")
                && url.username().is_empty()
                && url.password().is_none()
        };
        let url = url.filter(is_plain);
        url.map(String::from).ok_or("must be a URL of this API or of one of its dashboards".into())
    }
}

/// Returns whether scripts of `origin` may use a credential whose organization lists these origins.
/// Trusted and listed origins may; every origin may if none is listed. A request without an origin
/// always may.
#[must_use]
pub fn is_origin_allowed(
    origin: Option<&str>,
    listed: &[String],
    trusted: &TrustedOrigins,
) -> bool {
    let Some(origin) = origin.filter(|_| !listed.is_empty()) else {
        return true;
    };
    let is_listed = |origin: Origin| listed.iter().any(|it| it == origin.as_str());
    trusted.contains(origin) || Origin::parse(origin).is_ok_and(is_listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_one_canonical_form() {
        for (text, origin) in [
            ("https://App.Example.com", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("https://app.example.com:8443", "https://app.example.com:8443"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ] {
            assert_eq!(Origin::parse(text).expect("an origin").as_str(), origin);
        }
    }

    #[test]
    fn an_invalid_or_insecure_origin_is_an_error() {
        for text in [
            "",
            "null",
            "*",
            "https://*.example.com",
            "https://example.com/",
            "https://example.com/path",
            "https://user@example.com",
            "http://example.com",
            "http://localhost.example.com",
            "ftp://example.com",
            "example.com",
            "https://",
            "https://%2A.example.com",
            "https://ac\tme.example.com",
            "https://acme.example.com\n",
            " https://acme.example.com",
            &format!("https://{}.com", "a".repeat(5_000)),
            &format!("https://{}com", "abcdefgh.".repeat(30)),
        ] {
            assert!(Origin::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_a_callback_url_of_a_trusted_origin_is_accepted() {
        let own = Url::parse("https://api.example.com").expect("a URL");
        let dashboard = Origin::parse("https://app.example.com").expect("an origin");
        let trusted = TrustedOrigins::new(own, vec![dashboard]);
        for valid in ["/welcome", "https://app.example.com/in?a=b", "https://api.example.com"] {
            assert!(trusted.parse_callback(valid).is_ok(), "{valid:?}");
        }
        for invalid in [
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "https://app.example.com.evil.example",
            "https://app.example.com@evil.example",
            "javascript:alert(1)",
            "blob:https://api.example.com/1",
            "http://app.example.com",
        ] {
            assert!(trusted.parse_callback(invalid).is_err(), "{invalid:?}");
        }
    }
}
