//! Resource indicators (RFC 8707): the services that a token is for.

use url::Url;

use crate::model::ValidationError;

/// The maximum length of a resource, in bytes.
const MAX_LENGTH: usize = 2_048;

/// The identifier of a protected resource: an absolute URI without a fragment, with scheme and host
/// in lower case and without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource(String);

impl Resource {
    /// Parses a resource.
    ///
    /// # Errors
    /// The text is not an absolute URI with a host, is longer than 2,048 bytes, has a fragment, `@`
    /// or `\`, is not printable ASCII, or ends with two slashes.
    pub fn parse(text: &str) -> Result<Self, ValidationError> {
        let invalid = "must be an absolute URI with a host, at most 2048 ASCII characters long, \
                       without a fragment, @ or \\, such as https://mcp.example.com";
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain || text.len() > MAX_LENGTH || text.contains(['#', '\\', '@']) {
            return Err(invalid.into());
        }
        let (scheme, rest) = text.split_once("://").ok_or(invalid)?;
        let url = Url::parse(text).map_err(|_| invalid)?;
        if !url.has_host() {
            return Err(invalid.into());
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.strip_suffix('/').unwrap_or(path);
        // With one slash removed, the text would still end with one, and parsing it again would
        // give another resource.
        if path.ends_with('/') {
            return Err("must not end with more than one slash".into());
        }
        Ok(Self(format!("{}://{}{path}", scheme.to_lowercase(), authority.to_lowercase())))
    }

    /// Returns it as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_compared_without_the_case_of_scheme_and_host_and_one_trailing_slash() {
        let parsed = |text: &str| Resource::parse(text).map(|it| it.0).ok();
        for (text, expected) in [
            ("https://api.example.com", "https://api.example.com"),
            ("HTTPS://API.Example.com/", "https://api.example.com"),
            ("https://api.example.com/MCP/", "https://api.example.com/MCP"),
            ("https://api.example.com:8443/a?b=C", "https://api.example.com:8443/a?b=C"),
        ] {
            assert_eq!(parsed(text).as_deref(), Some(expected), "{text}");
            assert_eq!(parsed(expected).as_deref(), Some(expected), "its normal form is its own");
        }
        for invalid in [
            "",
            "api",
            "/mcp",
            "https://",
            "https://a.example/#x",
            "https://u@a.example",
            "urn:a:b",
            "https://api.example.com//",
            "https://api.example.com/MCP//",
        ] {
            assert_eq!(parsed(invalid), None, "{invalid}");
        }
    }
}
