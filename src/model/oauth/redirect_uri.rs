//! Redirect URIs of clients (RFC 6749 §3.1.2, RFC 8252 §7).

use url::Url;

use crate::model::ValidationError;
use crate::model::oauth::ApplicationType;

/// The maximum number of redirect URIs of a client.
pub const MAX_REDIRECT_URIS: usize = 10;
/// The maximum length of a redirect URI, in bytes.
const MAX_LENGTH: usize = 2_048;
/// Schemes that run or show what follows them.
const DANGEROUS_SCHEMES: [&str; 7] =
    ["javascript", "data", "vbscript", "file", "blob", "about", "filesystem"];

/// A registered redirect URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectUri(String);

impl RedirectUri {
    /// Parses a redirect URI: `https`, `http` on a loopback host, or for native applications a
    /// private-use scheme with a dot. No fragment, no user information.
    ///
    /// # Errors
    /// The text is invalid. The error states what is required.
    pub fn parse(text: &str, application: ApplicationType) -> Result<Self, ValidationError> {
        if text.len() > MAX_LENGTH {
            return Err(format!("must be at most {MAX_LENGTH} bytes long").into());
        }
        // A URL parser would drop or encode other characters, and the text is compared exactly.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['\\', '*', '#']) {
            return Err("must be a URI of ASCII characters without a fragment or a wildcard".into());
        }
        let url = Url::parse(text).map_err(|_| "must be an absolute URI")?;
        if !url.username().is_empty() || url.password().is_some() || has_user_information(text) {
            return Err("must not contain user information".into());
        }
        let scheme = url.scheme();
        // The parser would repair `https:/host` and `https:host`.
        let has_authority = text[scheme.len()..].starts_with("://");
        let is_allowed = match scheme {
            "https" => has_authority && url.has_host(),
            "http" => has_authority && is_loopback(&url),
            scheme => {
                application == ApplicationType::Native
                    && scheme.contains('.')
                    && !DANGEROUS_SCHEMES.contains(&scheme)
            }
        };
        if is_allowed && text.starts_with(scheme) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must begin with https://, or http:// on localhost, 127.0.0.1 or [::1]; a native \
                 application may have a scheme of its own with a dot, such as com.example.app:/cb"
                .into())
        }
    }

    /// Creates it from the database's column.
    #[must_use]
    pub const fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// Returns it as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether a request may name `presented`: exactly this text, or on a loopback host
    /// this one with another port (RFC 8252 §7.3).
    #[must_use]
    pub fn allows(&self, presented: &str) -> bool {
        if self.0 == presented {
            return true;
        }
        let (Some(own), Some(other)) = (loopback_parts(&self.0), loopback_parts(presented)) else {
            return false;
        };
        own == other
    }

    /// Returns whether any program on the person's device could receive what is sent there.
    #[must_use]
    pub fn is_local(&self) -> bool {
        !self.0.starts_with("https://")
    }

    /// Returns what a person recognizes of it: the host, or the scheme of a native application.
    #[must_use]
    pub fn display_host(&self) -> String {
        // After another scheme, anything can be in the place of a host.
        let url = Url::parse(&self.0).ok().filter(|url| matches!(url.scheme(), "https" | "http"));
        let host = url.as_ref().and_then(|url| url.host_str().map(str::to_owned));
        host.unwrap_or_else(|| self.0.split(':').next().unwrap_or_default().to_owned())
    }
}

/// Returns redirect URIs as the database stores them.
#[must_use]
pub fn to_stored(uris: &[RedirectUri]) -> Vec<String> {
    uris.iter().map(|uri| uri.as_str().to_owned()).collect()
}

fn is_loopback(url: &Url) -> bool {
    matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
}

/// Returns the host and what follows the port of an `http` URI on a loopback host, as text: the URI
/// is compared exactly but for the port.
fn loopback_parts(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("http://")?;
    let host =
        ["localhost", "127.0.0.1", "[::1]"].into_iter().find(|host| rest.starts_with(host))?;
    let after = &rest[host.len()..];
    let Some(port_and_path) = after.strip_prefix(':') else {
        return after
            .starts_with(['/', '?'])
            .then_some((host, after))
            .or_else(|| after.is_empty().then_some((host, after)));
    };
    let digits = port_and_path.bytes().take_while(u8::is_ascii_digit).count();
    let (port, path) = port_and_path.split_at(digits);
    let is_port = port.parse::<u16>().is_ok();
    let is_path = path.is_empty() || path.starts_with(['/', '?']);
    (is_port && is_path).then_some((host, path))
}

/// Returns whether the authority contains an `@`, which the parser may read as an empty user name.
fn has_user_information(text: &str) -> bool {
    let authority = text.split_once("://").map_or("", |(_, rest)| rest);
    authority.split(['/', '?']).next().unwrap_or_default().contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_the_host_of_a_web_uri_and_the_scheme_of_any_other() {
        for (uri, shown) in [
            ("https://a.example:8443/cb", "a.example"),
            ("http://localhost:3000/cb", "localhost"),
            ("com.example.app:/cb", "com.example.app"),
            ("com.evil.app://claude.ai/cb", "com.evil.app"),
        ] {
            assert_eq!(RedirectUri::from_stored(uri.to_owned()).display_host(), shown);
        }
    }

    #[test]
    fn only_safe_uris_can_be_registered() {
        let web = |text: &str| RedirectUri::parse(text, ApplicationType::Web).is_ok();
        let native = |text: &str| RedirectUri::parse(text, ApplicationType::Native).is_ok();
        for valid in [
            "https://app.example.com/cb",
            "https://app.example.com/cb?a=b",
            "http://localhost/cb",
            "http://localhost:3000/cb",
            "http://127.0.0.1:0/cb",
            "http://[::1]/",
        ] {
            assert!(web(valid) && native(valid), "{valid}");
        }
        assert!(native("com.example.app:/cb") && !web("com.example.app:/cb"));
        for invalid in [
            "",
            "/cb",
            "app.example.com/cb",
            "http://app.example.com/cb",
            "http://127.0.0.2/cb",
            "http://localhost.example.com/cb",
            "https://app.example.com/cb#f",
            "https://app.example.com/cb#",
            "https://user@app.example.com/cb",
            "https://@app.example.com/cb",
            "https://u:p@app.example.com/cb",
            "https://*.example.com/cb",
            "https:app.example.com",
            "https:/app.example.com",
            "https:\\\\app.example.com",
            "HTTPS://app.example.com/cb",
            "https://bücher.example/cb",
            "https://app.example.com/a b",
            "https://app.example.com/\n",
            "javascript:alert(1)",
            "java.script:alert(1)\u{7f}",
            "data:text/html,x",
            "myapp:/cb",
            "file:///etc/passwd",
            "about:blank",
        ] {
            assert!(!web(invalid) && !native(invalid), "{invalid}");
        }
        let long = format!("https://app.example.com/{}", "a".repeat(MAX_LENGTH));
        assert!(!web(&long));
    }

    #[test]
    fn a_request_names_exactly_a_registered_uri_but_for_the_port_of_a_loopback_host() {
        let allows = |registered: &str, presented: &str| {
            RedirectUri::from_stored(registered.to_owned()).allows(presented)
        };
        assert!(allows("https://a.example/cb", "https://a.example/cb"));
        for other in [
            "https://a.example/cb/",
            "https://a.example/CB",
            "https://A.example/cb",
            "https://a.example/cb?x",
            "https://a.example:443/cb",
            "https://a.example/%63b",
            "https://aXexample/cb",
            "http://a.example/cb",
        ] {
            assert!(!allows("https://a.example/cb", other), "{other}");
        }
        for registered in ["http://localhost/callback", "http://localhost:1/callback"] {
            assert!(allows(registered, "http://localhost:51234/callback"));
            assert!(allows(registered, "http://localhost/callback"));
            for other in [
                "http://localhost:51234/other",
                "http://localhost:51234/callback/",
                "http://localhost:51234",
                "http://localhost:x/callback",
                "http://localhost:99999/callback",
                "http://localhost:1@evil.example/callback",
                "http://localhost.evil.example/callback",
                "http://127.0.0.1:51234/callback",
                "https://localhost:51234/callback",
            ] {
                assert!(!allows(registered, other), "{other}");
            }
        }
        assert!(!allows("https://a.example/cb", "http://localhost/cb"));
    }
}
