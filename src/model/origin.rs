//! Where pages come from: origins (RFC 6454), and the list of those we trust with cookies.

use std::fmt;

use url::{Host, Url};

use crate::model::ValidationError;

/// The longest text that can be an origin: a host of 253 Unicode characters, with a margin.
const MAX_LENGTH: usize = 1_024;

/// One origin, in its one spelling: scheme, host and port, where it is not the scheme's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(String);

impl Origin {
    /// Reads `https://host[:port]`; `http` is for this machine only. No path, no wildcard.
    ///
    /// # Errors
    /// Any other text, with a message for the caller.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        let wrong = || {
            ValidationError::from(
                "must be https://host or https://host:port (http:// for localhost only)",
            )
        };
        // A host contains no character that a parser would decode or drop, and is no longer than
        // DNS allows.
        let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && c != '%';
        if text.len() > MAX_LENGTH || !text.chars().all(is_plain) {
            return Err(wrong());
        }
        let url = Url::parse(text).map_err(|_| wrong())?;
        let has_a_name = url.host_str().is_some_and(|host| host.len() <= 253);
        let is_bare = !text.ends_with('/') && !text.contains(['*', '?', '#', '@', '\\', ' ']);
        let is_bare = is_bare && url.path() == "/" && text.matches('/').count() == 2;
        let allowed = match url.scheme() {
            "https" => url.has_host(),
            "http" => is_localhost(&url),
            _ => false,
        };
        if is_bare && allowed && has_a_name { Ok(Self::from_url(&url)) } else { Err(wrong()) }
    }

    /// The origin of a URL.
    #[must_use]
    pub fn from_url(url: &Url) -> Self {
        Self(url.origin().ascii_serialization())
    }

    /// The origin as text.
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

/// How many origins an organization may list.
pub const MAX_LISTED_ORIGINS: usize = 50;

/// Reads origins separated by commas: at least one, and each kept once.
///
/// # Errors
/// A text that is none, or too many.
pub fn parse_comma_separated_origins(text: &str) -> Result<Vec<Origin>, ValidationError> {
    parse_origin_list(text.split(',').map(str::trim))
}

/// Reads a list of origins, and keeps each once.
///
/// # Errors
/// A text that is none, or too many.
pub fn parse_origin_list<'a>(
    texts: impl Iterator<Item = &'a str>,
) -> Result<Vec<Origin>, ValidationError> {
    let mut origins: Vec<Origin> = Vec::new();
    for (at, text) in texts.enumerate() {
        if at == MAX_LISTED_ORIGINS {
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

/// The origins whose pages may act for the person that signed in there: our own and the
/// dashboards'.
#[derive(Clone, Debug)]
pub struct TrustedOrigins {
    api_url: Url,
    all: Vec<Origin>,
}

impl TrustedOrigins {
    /// The API's own address and the dashboards'.
    #[must_use]
    pub fn new(own: Url, dashboards: Vec<Origin>) -> Self {
        let mut all = vec![Origin::from_url(&own)];
        all.extend(dashboards);
        Self { api_url: own, all }
    }

    /// Whether `origin` is one of them.
    #[must_use]
    pub fn contains(&self, origin: &str) -> bool {
        self.all.iter().any(|trusted| trusted.as_str() == origin)
    }

    /// Reads where a person is to go on to: a URL of a trusted origin, or a path of our own.
    ///
    /// # Errors
    /// Any other text, with a message for the caller.
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

/// Whether scripts of `origin` may use a credential whose organization lists these origins: trusted
/// origins and listed ones, or any where none is listed. A request without an origin always may.
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
    fn an_origin_has_one_spelling() {
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
    fn what_is_no_origin_or_not_safe_is_refused() {
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
    fn a_callback_stays_with_us() {
        let own = Url::parse("https://api.example.com").expect("a URL");
        let dashboard = Origin::parse("https://app.example.com").expect("an origin");
        let trusted = TrustedOrigins::new(own, vec![dashboard]);
        for good in ["/welcome", "https://app.example.com/in?a=b", "https://api.example.com"] {
            assert!(trusted.parse_callback(good).is_ok(), "{good:?}");
        }
        for bad in [
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "https://app.example.com.evil.example",
            "https://app.example.com@evil.example",
            "javascript:alert(1)",
            "blob:https://api.example.com/1",
            "http://app.example.com",
        ] {
            assert!(trusted.parse_callback(bad).is_err(), "{bad:?}");
        }
    }
}
