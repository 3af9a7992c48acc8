//! Issuer identifiers of identity providers (`OpenID` Connect Discovery §3).

use url::{Host, Url};

use crate::model::ValidationError;
use crate::model::outbound::AllowedHosts;
use crate::model::sso::provider_metadata::{DiscoveryFailure, DiscoveryStep};

/// The maximum length of an issuer identifier.
pub const MAX_ISSUER_LENGTH: usize = 512;

/// Where a provider's metadata is, below its issuer identifier.
const METADATA_PATH: &str = "/.well-known/openid-configuration";

/// Domains at which Microsoft issues tokens. The first part of the path names the tenant.
const ENTRA_DOMAINS: [&str; 6] = [
    "microsoftonline.com",
    "microsoftonline.us",
    "microsoftonline.cn",
    "microsoft.com",
    "windows.net",
    "chinacloudapi.cn",
];
/// The tenants of Microsoft that have the accounts of several organizations, or of everybody.
const SHARED_TENANTS: [&str; 4] =
    ["common", "organizations", "consumers", "9188040d-6c67-4c5b-b112-36a304b66dad"];

/// Hosts of providers with the accounts of everybody: who leaves an organization keeps the account.
const PUBLIC_PROVIDERS: [&str; 8] = [
    "gitlab.com",
    "appleid.apple.com",
    "www.facebook.com",
    "api.login.yahoo.com",
    "www.linkedin.com",
    "slack.com",
    "id.twitch.tv",
    "access.line.me",
];
/// The issuer of Google, which has the accounts of everybody, too. Its claim `hd` states the
/// organization of an account; private accounts have none.
pub const GOOGLE: &str = "https://accounts.google.com";

/// An issuer identifier: a URL whose provider has the accounts of one organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    text: String,
    metadata_url: Url,
}

impl Issuer {
    /// Parses an issuer identifier: an `https` URL without a query and a fragment. `http` is
    /// possible for a listed host.
    ///
    /// # Errors
    /// The text is no such URL, the server may not fetch from it, or it is an issuer for the
    /// accounts of several Microsoft Entra tenants or of everybody. The error states what is
    /// required.
    pub fn parse(text: &str, allowed_hosts: &AllowedHosts) -> Result<Self, ValidationError> {
        let is_plain = text.len() <= MAX_ISSUER_LENGTH
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        let url = Url::parse(text).ok().filter(|url| is_plain && url.has_host());
        let url = url.ok_or_else(|| {
            format!("must be an https URL of at most {MAX_ISSUER_LENGTH} characters")
        })?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must not have a query or a fragment".into());
        }
        if is_shared(&url, text) {
            return Err(
                "must be the issuer of one Microsoft Entra tenant: use the tenant's id in \
                        place of common, organizations, consumers or {tenantid}"
                    .into(),
            );
        }
        if url.host_str().is_some_and(|host| PUBLIC_PROVIDERS.contains(&host)) {
            return Err("must not be a provider with the accounts of everybody".into());
        }
        let not_allowed = |ValidationError(why)| DiscoveryFailure {
            step: DiscoveryStep::NotAllowedAddress,
            why: why.into_owned(),
        };
        allowed_hosts.check(&url).map_err(not_allowed).map_err(ValidationError::from)?;
        // A terminating slash of the issuer is left out.
        let base = text.strip_suffix('/').unwrap_or(text);
        let metadata_url = Url::parse(&format!("{base}{METADATA_PATH}"));
        let metadata_url = metadata_url.map_err(|_| "must be an https URL")?;
        Ok(Self { text: text.to_owned(), metadata_url })
    }

    /// Returns it as text, exactly as the provider states it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the URL of the provider's metadata.
    #[must_use]
    pub const fn metadata_url(&self) -> &Url {
        &self.metadata_url
    }
}

/// Returns whether tokens of this issuer are about accounts of several Entra tenants.
fn is_shared(url: &Url, text: &str) -> bool {
    if text.to_ascii_lowercase().contains("{tenantid}") {
        return true;
    }
    let Some(Host::Domain(host)) = url.host() else { return false };
    let host = host.trim_end_matches('.');
    let is_microsoft = ENTRA_DOMAINS.iter().any(|domain| {
        host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    let tenant = url.path_segments().and_then(|mut segments| segments.find(|it| !it.is_empty()));
    let tenant = tenant.unwrap_or_default().to_ascii_lowercase();
    is_microsoft && (tenant.is_empty() || SHARED_TENANTS.contains(&tenant.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Issuer, ValidationError> {
        Issuer::parse(text, &AllowedHosts::parse("127.0.0.1:8080").expect("a host"))
    }

    #[test]
    fn the_metadata_is_below_the_path_of_the_issuer_without_a_terminating_slash() {
        for (issuer, url) in [
            ("https://idp.example.com", "https://idp.example.com"),
            ("https://idp.example.com/", "https://idp.example.com"),
            ("https://IDP.example.com/a/", "https://idp.example.com/a"),
            (
                "https://idp.example.com:8443/realms/common",
                "https://idp.example.com:8443/realms/common",
            ),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ] {
            let parsed = parse(issuer).expect(issuer);
            assert_eq!(parsed.as_str(), issuer);
            let expected = format!("{url}/.well-known/openid-configuration");
            assert_eq!(parsed.metadata_url().as_str(), expected);
        }
    }

    #[test]
    fn other_urls_and_texts_are_rejected() {
        let long = format!("https://idp.example.com/{}", "a".repeat(MAX_ISSUER_LENGTH));
        for text in [
            "",
            "idp.example.com",
            "https://",
            "https:idp.example.com/\\a",
            " https://idp.example.com",
            "https://idp.example.com\n",
            "https://idp.example.com/é",
            "https://idp.example.com/?a=b",
            "https://idp.example.com/?",
            "https://idp.example.com/#",
            "mailto:ann@example.com",
            "data:text/plain,x",
            &long,
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_address_that_may_not_be_fetched_is_named_as_the_failed_step() {
        for text in [
            "http://idp.example.com",
            "ftp://idp.example.com",
            "https://127.0.0.1",
            "https://[::1]/",
            "https://10.0.0.1/realms/a",
            "http://127.0.0.1:8081",
            "https://user:password@idp.example.com",
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.ends_with("(not_allowed_address)"), "{text}: {error}");
        }
    }

    #[test]
    fn issuers_for_the_accounts_of_several_entra_tenants_are_rejected() {
        for text in [
            "https://login.microsoftonline.com/common/v2.0",
            "https://login.microsoftonline.com/Common/v2.0",
            "https://login.microsoftonline.com//common/v2.0",
            "https://LOGIN.microsoftonline.com./organizations/v2.0",
            "https://login.microsoftonline.us/consumers/v2.0",
            "https://login.partner.microsoftonline.cn/common",
            "https://sts.windows.net/common/",
            "https://login.microsoftonline.com/9188040D-6c67-4c5b-b112-36a304b66dad/v2.0",
            "https://login.microsoftonline.com",
            "https://login.microsoftonline.com/{tenantid}/v2.0",
            "https://idp.example.com/{TenantId}/v2.0",
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains("Entra"), "{text}: {error}");
        }
        for text in [
            "https://login.microsoftonline.com/0d4b7c2e-1111-2222-3333-444455556666/v2.0",
            "https://notmicrosoftonline.com/common",
        ] {
            parse(text).expect(text);
        }
    }

    #[test]
    fn a_provider_with_the_accounts_of_everybody_is_rejected_but_for_google() {
        for issuer in ["https://gitlab.com", "https://appleid.apple.com", "https://slack.com"] {
            let why = parse(issuer).expect_err("an error").0;
            assert!(why.contains("everybody"), "{issuer}: {why}");
        }
        assert!(parse(GOOGLE).is_ok() && parse("https://gitlab.acme.example").is_ok());
    }
}
