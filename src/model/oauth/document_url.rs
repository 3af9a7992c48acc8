//! Client ids that are the URLs of Client ID Metadata Documents
//! (draft-ietf-oauth-client-id-metadata-document).

use url::Url;

use crate::model::ValidationError;
use crate::model::oauth::is_client_id;
use crate::model::outbound::AllowedHosts;

/// The URL of a client's metadata document, which is its client id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentUrl {
    text: String,
    url: Url,
}

impl DocumentUrl {
    /// Returns whether a client id is meant as a URL. The ids that this server makes are not.
    #[must_use]
    pub fn is_meant_by(client_id: &str) -> bool {
        client_id.starts_with("https://") || client_id.starts_with("http://")
    }

    /// Parses a client id: an `https` URL with a path, without user information and fragment, in
    /// the form in which URL parsers write it, so that one document has one id. That excludes dot
    /// segments, a default port and upper-case hosts. `http` is possible for a listed host.
    ///
    /// # Errors
    /// The text is no such URL, or its host may not be fetched from. The error states what is
    /// required.
    pub fn parse(text: &str, allowed_hosts: &AllowedHosts) -> Result<Self, ValidationError> {
        let url = Url::parse(text).ok().filter(|_| is_client_id(text));
        let url = url.ok_or("must be an https URL of at most 2048 printable ASCII characters")?;
        allowed_hosts.check(&url)?;
        if url.path() == "/" {
            return Err("must have a path".into());
        }
        // `https://@host/` has an empty user name, which the parser drops.
        if url.as_str() != text {
            return Err("must be a normalized URL: without dot segments, a default port, \
                        upper-case letters in the host, and characters that need encoding"
                .into());
        }
        Ok(Self { text: text.to_owned(), url })
    }

    /// Returns the URL to fetch.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Returns it as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Returns the host of a client id that is a URL, as the consent page shows it: with the port,
/// unless it is the default one.
#[must_use]
pub fn document_host(client_id: &str) -> String {
    let url = Url::parse(client_id).ok();
    let host = url.as_ref().and_then(|url| Some((url.host_str()?, url.port())));
    match host {
        Some((host, Some(port))) => format!("{host}:{port}"),
        Some((host, None)) => host.to_owned(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DocumentUrl, ValidationError> {
        DocumentUrl::parse(text, &AllowedHosts::default())
    }

    #[test]
    fn a_client_id_is_a_normalized_https_url_with_a_path() {
        for text in [
            "https://client.example.com/oauth/client.json",
            "https://client.example.com/a",
            "https://client.example.com:8443/a?b=c",
            "https://xn--bcher-kva.example/client",
            "https://client.example.com/a..b/.c/d.",
        ] {
            assert_eq!(parse(text).expect(text).as_str(), text);
        }
        let long = format!("https://client.example.com/{}", "a".repeat(2_048));
        for text in [
            "",
            "https:",
            "https://",
            "https://client.example.com",
            "https://client.example.com/",
            "https://client.example.com?a=b",
            "https://client.example.com/a#",
            "https://client.example.com/a#b",
            "https://user@client.example.com/a",
            "https://@client.example.com/a",
            "https://:@client.example.com/a",
            "https://client.example.com/./a",
            "https://client.example.com/a/../b",
            "https://client.example.com/a/%2e%2E/b",
            "https://client.example.com/a/%2e",
            "https://client.example.com:443/a",
            "https://client.example.com:/a",
            "https://CLIENT.example.com/a",
            "HTTPS://client.example.com/a",
            "https:client.example.com/a",
            "https:///client.example.com/a",
            "https:\\\\client.example.com\\a",
            "https://client.example.com/a b",
            "https://client.example.com/a\n",
            "https://client.example.com/ü",
            "https://bücher.example/a",
            "https://client.example.com/a?b='c'",
            "https://0x08080808/a",
            "http://client.example.com/a",
            "http://localhost:3000/a",
            "ftp://client.example.com/a",
            &long,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn plain_http_is_for_listed_hosts_only() {
        let hosts = AllowedHosts::parse("localhost:3000").expect("hosts");
        assert!(DocumentUrl::parse("http://localhost:3000/client.json", &hosts).is_ok());
        assert!(DocumentUrl::parse("http://localhost:3001/client.json", &hosts).is_err());
    }

    #[test]
    fn the_host_is_displayed_with_an_unusual_port() {
        assert_eq!(document_host("https://a.example/b"), "a.example");
        assert_eq!(document_host("https://a.example:8443/b"), "a.example:8443");
    }
}
